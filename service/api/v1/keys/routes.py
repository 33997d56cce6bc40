"""API keys."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.dependencies import AdminTenant, ServicesDep, paged
from service.api.routing import StrictRoute
from service.api.schemas import page_links
from service.api.v1.keys.schemas import CreateKey, KeyBody, KeyList, NewKeyBody, key_body
from service.application.ports.repositories import Page
from service.domain.errors import InvalidRequestError
from service.domain.keys import Scope

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=StrictRoute)


@router.post("", status_code=201, summary="Create a key")
async def create_key(
    body: CreateKey, response: Response, services: ServicesDep, _: AdminTenant
) -> NewKeyBody:
    """Create a key and return its secret, which is not stored and cannot be shown again.

    As soon as a key exists, every request needs one. The call is not idempotent: each creates a
    key, whatever its Idempotency-Key.
    """
    known = {scope.value for scope in Scope}
    for index, scope in enumerate(body.scopes):
        if scope not in known:
            problem = f"a scope is one of {', '.join(sorted(known))}"
            raise InvalidRequestError.at(f"/scopes/{index}", "unknown_scope", problem)
    quotas = None if body.quotas is None else body.quotas.model_dump(exclude_none=True)
    key, secret = await services.authenticator.create(
        body.name,
        tenant=body.tenant,
        scopes=body.scopes,
        expires_at=body.expires_at,
        quotas=quotas,
    )
    response.headers["Location"] = f"/v1/keys/{key.id}"
    response.headers["Cache-Control"] = "no-store"
    return NewKeyBody(**key_body(key).model_dump(), key=secret)


@router.get("", summary="List keys")
async def list_keys(
    request: Request,
    response: Response,
    services: ServicesDep,
    _: AdminTenant,
    pagination: Annotated[Page, paged("key")],
) -> KeyList:
    """Return a page of keys, newest first, including revoked ones."""
    keys = await services.authenticator.list_keys(pagination)
    ids = [key.id for key in keys]
    shown, more = page_links(request, response, keys, pagination.limit, ids)
    return KeyList(data=[key_body(key) for key in shown], has_more=more)


@router.delete("/{key}", status_code=200, summary="Revoke a key")
async def revoke_key(
    key: Annotated[str, Path(max_length=64, description="Id of a key.")],
    services: ServicesDep,
    _: AdminTenant,
) -> KeyBody:
    """Revoke a key; requests with it are rejected from now on."""
    return key_body(await services.authenticator.revoke(key))
