"""Networks, versions and aliases."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.dependencies import (
    Idempotency,
    IfMatch,
    IfNoneMatch,
    NetworkRef,
    ReadTenant,
    ServicesDep,
    TrainTenant,
    Unescaped,
    VersionRef,
    paged,
    paged_by,
)
from service.api.encoding import answer, saved
from service.api.etags import (
    content_etag,
    matches,
    network_etag,
    unless_stale,
)
from service.api.routing import StrictRoute
from service.api.schemas import page_links
from service.api.v1.networks.schemas import (
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
from service.application.networks.networks import Changes
from service.application.ports import Page, StoredResponse, UnitOfWork

router = APIRouter(prefix="/v1/networks", tags=["networks"], route_class=StrictRoute)

Alias = Annotated[
    str,
    Unescaped,
    Path(description="A name for a version.", openapi_examples={"here": {"value": "stable"}}),
]


@router.post("", status_code=201, summary="Create a network", response_model=NetworkBody)
async def create_network(
    body: CreateNetwork, services: ServicesDep, tenant: TrainTenant, idempotency: Idempotency
) -> Response:
    """Create a network; version 0 holds its initial weights."""
    first = await services.idempotent_requests.stored_response(idempotency)
    if first is not None:
        return answer((first, True))
    unsaved = await services.networks.build(tenant, body.wanted())

    async def create(work: UnitOfWork) -> StoredResponse:
        network = await services.networks.add(work, unsaved)
        headers = {"Location": network_path(network), "ETag": network_etag(network)}
        return saved(201, network_body(network), headers)

    return answer(await services.idempotent_requests.run(idempotency, create))


@router.get("", summary="List networks")
async def list_networks(
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: ReadTenant,
    page: Annotated[Page, paged("net")],
) -> NetworkList:
    """Return a page of networks, newest first."""
    found = await services.networks.page(tenant, page)
    ids = [network.id for network in found]
    shown, more = page_links(request, response, found, page.limit, ids)
    return NetworkList(data=[network_body(network) for network in shown], has_more=more)


@router.get("/{network}", summary="Look at a network", response_model=NetworkBody)
async def get_network(
    network: NetworkRef,
    services: ServicesDep,
    tenant: ReadTenant,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a network by id or name."""
    found = await services.networks.get(tenant, network)
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
    services: ServicesDep,
    tenant: TrainTenant,
    if_match: IfMatch = None,
) -> NetworkBody:
    """Change what may change; weights never do, they get a new version."""
    named = frozenset(body.model_fields_set)
    changes = Changes(body.name, body.labels, body.metadata, named)
    changed = await services.networks.change(tenant, network, changes, unless_stale(if_match))
    response.headers["ETag"] = network_etag(changed)
    return network_body(changed)


@router.delete("/{network}", status_code=204, summary="Delete a network")
async def delete_network(
    network: NetworkRef, services: ServicesDep, tenant: TrainTenant, if_match: IfMatch = None
) -> Response:
    """Delete a network with all its versions; 409 while a job is active on it."""
    await services.networks.remove(tenant, network, unless_stale(if_match))
    return Response(status_code=204)


@router.get("/{network}/versions", summary="List versions")
async def list_versions(
    network: NetworkRef,
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: ReadTenant,
    page: Annotated[Page, paged_by("[0-9]{1,9}", "a version's number")],
) -> VersionList:
    """Return a page of versions, newest first; ``after`` is a version number."""
    found, versions = await services.networks.versions(tenant, network, page)
    ids = [str(version.number) for version in versions]
    shown, more = page_links(request, response, versions, page.limit, ids)
    return VersionList(data=[version_body(found, version) for version in shown], has_more=more)


@router.get("/{network}/versions/{ref}", summary="Look at a version", response_model=VersionBody)
async def get_version(
    network: NetworkRef,
    ref: VersionRef,
    services: ServicesDep,
    tenant: ReadTenant,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a version by number, alias, "latest" or "live"."""
    found, version = await services.networks.version(tenant, network, ref)
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
    services: ServicesDep,
    tenant: TrainTenant,
    if_match: IfMatch = None,
) -> NetworkBody:
    """Point an alias; "stable" answers the calls that name no version."""
    stale = unless_stale(if_match)
    changed = await services.networks.set_alias(tenant, network, alias, body.version, stale)
    response.headers["ETag"] = network_etag(changed)
    return network_body(changed)


@router.delete("/{network}/aliases/{alias}", status_code=204, summary="Remove an alias")
async def remove_alias(
    network: NetworkRef,
    alias: Alias,
    services: ServicesDep,
    tenant: TrainTenant,
    if_match: IfMatch = None,
) -> Response:
    """Remove an alias."""
    await services.networks.set_alias(tenant, network, alias, None, unless_stale(if_match))
    return Response(status_code=204)
