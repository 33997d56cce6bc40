"""API keys."""

import json
import secrets
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.dependencies import Admin, OnceOnly, Parts, paged
from service.api.encoding import answer, saved
from service.api.native.keys.schemas import CreateKey, KeyBody, KeyList, NewKeyBody, key_body
from service.api.schemas import page_links
from service.api.strict import StrictRoute
from service.application.ports import Page, SavedAnswer, Work
from service.domain.errors import Conflict, InvalidRequest
from service.domain.keys import Scope, derived_secret, digest_of, new_salt

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=StrictRoute)


@router.post("", status_code=201, summary="Make a key", response_model=NewKeyBody)
async def create_key(
    body: CreateKey, request: Request, parts: Parts, _: Admin, once: OnceOnly
) -> Response:
    """Make a key and tell it, once; with the first key, all calls need one."""
    known = {scope.value for scope in Scope}
    for index, scope in enumerate(body.scopes):
        if scope not in known:
            problem = f"a scope is one of {', '.join(sorted(known))}"
            raise InvalidRequest.at(f"/scopes/{index}", "unknown_scope", problem)
    # The first answer is remembered without the key: who asks again with the same key of its own,
    # which is not stored either, is told the same.
    bearer = request.headers.get("authorization", "").partition(" ")[2].strip()
    bearer = bearer or secrets.token_hex()  # the first key of all is told once

    async def create(work: Work) -> SavedAnswer:
        salt = new_salt()
        key, _ = await parts.access.add(
            work,
            body.name,
            tenant=body.tenant,
            scopes=body.scopes,
            expires_at=body.expires_at,
            secret=derived_secret(salt, bearer),
        )
        headers = {"Location": f"/v1/keys/{key.id}", "Cache-Control": "no-store"}
        made = saved(201, key_body(key), headers)
        return replace(made, body=json.dumps([salt, key.sha256, json.loads(made.body)]).encode())

    made, replayed = await parts.once(once, create)
    await parts.access.refresh()
    salt, sha256, fields = json.loads(made.body)
    secret = derived_secret(salt, bearer)
    if digest_of(secret) != sha256:
        problem = "only who made the key is told again, by the key that it came with"
        raise Conflict(problem, code="key_already_told")
    told = NewKeyBody(**fields, key=secret)
    return answer((replace(made, body=told.model_dump_json().encode()), replayed))


@router.get("", summary="List keys")
async def list_keys(
    request: Request,
    response: Response,
    parts: Parts,
    _: Admin,
    page: Annotated[Page, paged("key")],
) -> KeyList:
    """Return a page of keys, newest first, the revoked ones too."""
    found = await parts.access.page(page)
    shown, more = page_links(request, response, found, page.limit, [key.id for key in found])
    return KeyList(data=[key_body(key) for key in shown], has_more=more)


@router.delete("/{key}", status_code=200, summary="Revoke a key")
async def revoke_key(
    key: Annotated[str, Path(max_length=64, description="Id of a key.")], parts: Parts, _: Admin
) -> KeyBody:
    """Let a key open nothing from now on."""
    return key_body(await parts.access.revoke(key))
