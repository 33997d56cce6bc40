"""What all native bodies share."""

from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from service.api.encoding import rfc3339, uri_path
from service.domain.identifiers import MAX_NAME_LENGTH

Time = Annotated[
    datetime,
    PlainSerializer(rfc3339, return_type=str),
    Field(json_schema_extra={"format": "date-time"}),
]
Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        description="Any text without control characters, unique; without one it is the id.",
    ),
]
MAX_SEED = 2**53 - 1
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Item = TypeVar("Item")


class Body(BaseModel):
    """A request body: nothing unknown, nothing converted, nothing infinite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Links(BaseModel):
    """Where to go from here."""

    model_config = ConfigDict(extra="allow")
    self: str


def links(path: str, **more: str) -> Links:
    """Return links below a resource's path."""
    return Links.model_validate(
        {"self": path, **{name: f"{path}/{part}" for name, part in more.items()}}
    )


def page_links(
    request: Request, response: Response, found: list[Item], limit: int, ids: list[str]
) -> tuple[list[Item], bool]:
    """Return the items of the page and whether there are more, and link to the next page."""
    more = len(found) > limit
    if more:
        query = request.url.include_query_params(limit=limit, after=ids[limit - 1]).query
        path = uri_path(request.scope["path"])
        response.headers["Link"] = f'<{path}?{query}>; rel="next"'
    return found[:limit], more
