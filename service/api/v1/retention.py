"""Deletion of expired data on request."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.api.dependencies import AdminTenant, ServicesDep
from service.api.routing import StrictRoute

router = APIRouter(prefix="/v1/gc", tags=["health"], route_class=StrictRoute)


class CollectedBody(BaseModel):
    """The numbers of expired rows."""

    dry_run: bool
    deleted: dict[str, int] = Field(description="Rows by kind; with dry_run those that would be.")


@router.post("", summary="Delete expired data")
async def delete_expired_data(
    services: ServicesDep,
    _: AdminTenant,
    dry_run: Annotated[bool, Query(description="Count only, delete nothing.")] = False,  # noqa: FBT002
) -> CollectedBody:
    """Delete what its retention period has expired for, as the server does every night.

    The periods are settings. The files are deleted within 20 minutes.
    """
    return CollectedBody(dry_run=dry_run, deleted=await services.retention.collect(dry_run=dry_run))
