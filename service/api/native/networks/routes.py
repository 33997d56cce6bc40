"""Networks, versions and aliases."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.conditional import (
    content_etag,
    matches,
    network_etag,
    unless_stale,
)
from service.api.dependencies import (
    IfMatch,
    IfNoneMatch,
    NetworkRef,
    OnceOnly,
    Parts,
    Reader,
    Trainer,
    Unescaped,
    VersionRef,
    paged,
    paged_by,
)
from service.api.encoding import answer, saved
from service.api.native.networks.schemas import (
    ChangeNetwork,
    CreateNetwork,
    NetworkBody,
    NetworkList,
    SetAlias,
    VersionBody,
    VersionList,
    network_body,
    network_path,
    version_body,
)
from service.api.schemas import page_links
from service.api.strict import StrictRoute
from service.application.networks import Changes
from service.application.ports import Page, SavedAnswer, Work

router = APIRouter(prefix="/v1/networks", tags=["networks"], route_class=StrictRoute)

Alias = Annotated[
    str,
    Unescaped,
    Path(description="A name for a version.", openapi_examples={"here": {"value": "stable"}}),
]


@router.post("", status_code=201, summary="Create a network", response_model=NetworkBody)
async def create_network(
    body: CreateNetwork, parts: Parts, owner: Trainer, once: OnceOnly
) -> Response:
    """Create a network; version 0 holds its initial weights."""
    first = await parts.once.replay(once)
    if first is not None:
        return answer((first, True))
    drawn = await parts.networks.draw(owner, body.wanted())

    async def create(work: Work) -> SavedAnswer:
        network = await parts.networks.add(work, drawn)
        headers = {"Location": network_path(network), "ETag": network_etag(network)}
        return saved(201, network_body(network), headers)

    return answer(await parts.once(once, create))


@router.get("", summary="List networks")
async def list_networks(
    request: Request,
    response: Response,
    parts: Parts,
    owner: Reader,
    page: Annotated[Page, paged("net")],
) -> NetworkList:
    """Return a page of networks, newest first."""
    found = await parts.networks.page(owner, page)
    ids = [network.id for network in found]
    shown, more = page_links(request, response, found, page.limit, ids)
    return NetworkList(data=[network_body(network) for network in shown], has_more=more)


@router.get("/{network}", summary="Look at a network", response_model=NetworkBody)
async def get_network(
    network: NetworkRef, parts: Parts, owner: Reader, if_none_match: IfNoneMatch = None
) -> Response:
    """Return a network by id or name."""
    found = await parts.networks.get(owner, network)
    etag = network_etag(found)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    body = network_body(found).model_dump_json()
    return Response(body, 200, {"ETag": etag}, "application/json")


@router.patch("/{network}", summary="Change name, labels or metadata")
async def change_network(
    network: NetworkRef,
    body: ChangeNetwork,
    response: Response,
    parts: Parts,
    owner: Trainer,
    if_match: IfMatch = None,
) -> NetworkBody:
    """Change what may change; weights never do, they get a new version."""
    named = frozenset(body.model_fields_set)
    changes = Changes(body.name, body.labels, body.metadata, named)
    changed = await parts.networks.change(owner, network, changes, unless_stale(if_match))
    response.headers["ETag"] = network_etag(changed)
    return network_body(changed)


@router.delete("/{network}", status_code=204, summary="Delete a network")
async def delete_network(
    network: NetworkRef, parts: Parts, owner: Trainer, if_match: IfMatch = None
) -> Response:
    """Delete a network with all its versions; 409 while a job is active on it."""
    await parts.networks.remove(owner, network, unless_stale(if_match))
    return Response(status_code=204)


@router.get("/{network}/versions", summary="List versions")
async def list_versions(
    network: NetworkRef,
    request: Request,
    response: Response,
    parts: Parts,
    owner: Reader,
    page: Annotated[Page, paged_by("[0-9]{1,9}", "a version's number")],
) -> VersionList:
    """Return a page of versions, newest first; ``after`` is a version number."""
    found, versions = await parts.networks.versions(owner, network, page)
    ids = [str(version.number) for version in versions]
    shown, more = page_links(request, response, versions, page.limit, ids)
    return VersionList(data=[version_body(found, version) for version in shown], has_more=more)


@router.get("/{network}/versions/{ref}", summary="Look at a version", response_model=VersionBody)
async def get_version(
    network: NetworkRef,
    ref: VersionRef,
    parts: Parts,
    owner: Reader,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a version by number, alias, "latest" or "live"."""
    found, version = await parts.networks.version(owner, network, ref)
    body = version_body(found, version).model_dump_json().encode()
    etag = content_etag(body)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(body, 200, {"ETag": etag}, "application/json")


@router.put("/{network}/aliases/{alias}", summary="Point an alias at a version")
async def set_alias(
    network: NetworkRef,
    alias: Alias,
    body: SetAlias,
    response: Response,
    parts: Parts,
    owner: Trainer,
    if_match: IfMatch = None,
) -> NetworkBody:
    """Point an alias; "stable" answers the calls that name no version."""
    stale = unless_stale(if_match)
    changed = await parts.networks.set_alias(owner, network, alias, body.version, stale)
    response.headers["ETag"] = network_etag(changed)
    return network_body(changed)


@router.delete("/{network}/aliases/{alias}", status_code=204, summary="Remove an alias")
async def remove_alias(
    network: NetworkRef, alias: Alias, parts: Parts, owner: Trainer, if_match: IfMatch = None
) -> Response:
    """Remove an alias."""
    await parts.networks.set_alias(owner, network, alias, None, unless_stale(if_match))
    return Response(status_code=204)
