"""Networks, versions and aliases."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.dependencies import (
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
from service.api.etags import (
    content_etag,
    matches,
    network_etag,
    unless_stale,
)
from service.api.idempotency import Idempotent, stored
from service.api.routing import IdempotentRoute
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
from service.application.ports.database import UnitOfWork
from service.application.ports.repositories import Page, StoredResponse
from service.domain.errors import NotFoundError

router = APIRouter(prefix="/v1/networks", tags=["networks"], route_class=IdempotentRoute)

Alias = Annotated[
    str,
    Unescaped,
    Path(description="A name for a version.", openapi_examples={"here": {"value": "stable"}}),
]


VersionNumber = Annotated[
    str,
    Unescaped,
    Path(description="A version's number.", openapi_examples={"here": {"value": "1"}}),
]


def version_of(ref: str) -> int:
    """Return the number of a version that is named by its number alone."""
    if not (ref.isascii() and ref.isdigit() and len(ref) < 10):
        raise NotFoundError("version", ref)
    return int(ref)


@router.post("", status_code=201, summary="Create a network", response_model=NetworkBody)
async def create_network(
    body: CreateNetwork, services: ServicesDep, tenant: TrainTenant, creation: Idempotent
) -> Response:
    """Create a network; version 0 has its initial weights."""
    unsaved = await services.networks.build(tenant, body.new_network())

    async def create(work: UnitOfWork) -> StoredResponse:
        network = await services.networks.add(work, unsaved)
        headers = {"Location": network_path(network), "ETag": network_etag(network)}
        return stored(201, network_body(network), headers)

    return await creation.run(create)


@router.get("", summary="List networks")
async def list_networks(
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: ReadTenant,
    pagination: Annotated[Page, paged("net")],
) -> NetworkList:
    """Return a page of networks, newest first."""
    networks = await services.networks.page(tenant, pagination)
    ids = [network.id for network in networks]
    shown, more = page_links(request, response, networks, pagination.limit, ids)
    return NetworkList(data=[network_body(network) for network in shown], has_more=more)


@router.get("/{network}", summary="Get a network", response_model=NetworkBody)
async def get_network(
    network: NetworkRef,
    services: ServicesDep,
    tenant: ReadTenant,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a network by id or name."""
    record = await services.networks.get(tenant, network)
    etag = network_etag(record)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    body = network_body(record).model_dump_json()
    return Response(body, 200, {"ETag": etag}, "application/json")


@router.patch("/{network}", summary="Update a network")
async def update_network(
    network: NetworkRef,
    body: ChangeNetwork,
    response: Response,
    services: ServicesDep,
    tenant: TrainTenant,
    if_match: IfMatch = None,
) -> NetworkBody:
    """Change the name, labels or metadata; new weights are always a new version."""
    named = frozenset(body.model_fields_set)
    changes = Changes(body.name, body.labels, body.metadata, named)
    changed = await services.networks.change(tenant, network, changes, unless_stale(if_match))
    response.headers["ETag"] = network_etag(changed)
    return network_body(changed)


@router.delete("/{network}", status_code=204, summary="Delete a network")
async def delete_network(
    network: NetworkRef, services: ServicesDep, tenant: TrainTenant, if_match: IfMatch = None
) -> Response:
    """Delete a network and all its versions; 409 while a job on it is active."""
    await services.networks.remove(tenant, network, unless_stale(if_match))
    return Response(status_code=204)


@router.get("/{network}/versions", summary="List versions")
async def list_versions(
    network: NetworkRef,
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: ReadTenant,
    pagination: Annotated[Page, paged_by("[0-9]{1,9}", "a version's number")],
) -> VersionList:
    """Return a page of versions, newest first; ``after`` is a version number."""
    record, versions = await services.networks.versions(tenant, network, pagination)
    ids = [str(version.number) for version in versions]
    shown, more = page_links(request, response, versions, pagination.limit, ids)
    return VersionList(data=[version_body(record, version) for version in shown], has_more=more)


@router.get("/{network}/versions/{ref}", summary="Get a version", response_model=VersionBody)
async def get_version(
    network: NetworkRef,
    ref: VersionRef,
    services: ServicesDep,
    tenant: ReadTenant,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a version by number, alias, "latest" or "live"."""
    record, version = await services.networks.version(tenant, network, ref)
    body = version_body(record, version).model_dump_json().encode()
    etag = content_etag(body)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(body, 200, {"ETag": etag}, "application/json")


@router.delete(
    "/{network}/versions/{ref}",
    status_code=204,
    summary="Delete a version",
)
async def delete_version(
    network: NetworkRef,
    ref: VersionNumber,
    services: ServicesDep,
    tenant: TrainTenant,
    if_match: IfMatch = None,
) -> Response:
    """Delete a version by number; 409 while an alias or a job needs it."""
    stale = unless_stale(if_match)
    await services.networks.remove_version(tenant, network, version_of(ref), stale)
    return Response(status_code=204)


@router.put("/{network}/aliases/{alias}", summary="Set an alias")
async def set_alias(
    network: NetworkRef,
    alias: Alias,
    body: SetAlias,
    response: Response,
    services: ServicesDep,
    tenant: TrainTenant,
    if_match: IfMatch = None,
) -> NetworkBody:
    """Point an alias at a version; "stable" is used by requests that name no version."""
    stale = unless_stale(if_match)
    changed = await services.networks.set_alias(tenant, network, alias, body.version, stale)
    response.headers["ETag"] = network_etag(changed)
    return network_body(changed)


@router.delete("/{network}/aliases/{alias}", status_code=204, summary="Delete an alias")
async def delete_alias(
    network: NetworkRef,
    alias: Alias,
    services: ServicesDep,
    tenant: TrainTenant,
    if_match: IfMatch = None,
) -> Response:
    """Delete an alias."""
    await services.networks.set_alias(tenant, network, alias, None, unless_stale(if_match))
    return Response(status_code=204)
