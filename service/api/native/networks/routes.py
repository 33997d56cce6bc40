"""Networks, versions, aliases and weights."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Request, Response

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
    Paged,
    Parts,
    Reader,
    Trainer,
    VersionRef,
)
from service.api.encoding import answer, saved
from service.api.native.networks.schemas import (
    ChangeNetwork,
    CheckedBody,
    CreateNetwork,
    ImportedBody,
    ImportReport,
    NetworkBody,
    NetworkList,
    SetAlias,
    UploadedBody,
    VersionBody,
    VersionList,
    network_body,
    network_fields,
    network_path,
    version_body,
    version_fields,
)
from service.api.schemas import Name, page_links
from service.api.strict import StrictRoute
from service.application.networks import Changes
from service.application.ports import SavedAnswer, Work
from service.domain.errors import InvalidRequest, ServiceError, Stale

router = APIRouter(prefix="/v1/networks", tags=["networks"], route_class=StrictRoute)

WEIGHTS_EXAMPLE = {
    "layers": [
        {
            "type": "Dense",
            "weights": [[0.5], [-0.25]],
            "biases": [[0.1]],
            "inputSize": 2,
            "outputSize": 1,
            "activation": "sigmoid",
        }
    ],
    "loss": "mse",
}
Document = Annotated[dict[str, Any], Body(examples=[WEIGHTS_EXAMPLE])]
Format = Annotated[str | None, Query(description='"json", the native document.')]
DryRun = Annotated[bool, Query(description="Check everything, and store nothing.")]
Alias = Annotated[
    str, Path(description="A name for a version.", openapi_examples={"here": {"value": "stable"}})
]


class NotAcceptable(ServiceError):
    """The weights are not offered in that form."""

    code = "not_acceptable"


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


@router.post("/import", status_code=201, summary="Import a network", response_model=ImportedBody)
async def import_network(
    document: Document,
    parts: Parts,
    owner: Trainer,
    once: OnceOnly,
    name: Annotated[Name | None, Query(openapi_examples={"here": {"value": "imported"}})] = None,
) -> Response:
    """Make a network of a weights document: ours, or the JavaScript original's in both shapes."""
    first = await parts.once.replay(once)
    if first is not None:
        return answer((first, True))
    drawn = await parts.networks.read(owner, document, name)

    async def create(work: Work) -> SavedAnswer:
        network = await parts.networks.add(work, drawn)
        report = ImportReport(format=drawn.format, notes=list(drawn.notes))
        body = ImportedBody(**network_fields(network), import_report=report)
        headers = {"Location": network_path(network), "ETag": network_etag(network)}
        return saved(201, body, headers)

    return answer(await parts.once(once, create))


@router.get("", summary="List networks")
async def list_networks(
    request: Request, response: Response, parts: Parts, owner: Reader, page: Paged
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
    changes = Changes(body.name, body.labels, body.metadata)
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
    page: Paged,
) -> VersionList:
    """Return a page of versions, newest first; ``after`` is a version number."""
    if page.after is not None and not re.fullmatch("[0-9]{1,9}", page.after):
        raise InvalidRequest.at("", "invalid_after", "after must be a version number")
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


@router.get("/{network}/weights", summary="Download weights")
async def get_weights(
    network: NetworkRef,
    parts: Parts,
    owner: Reader,
    if_none_match: IfNoneMatch = None,
    format: Format = None,  # noqa: A002 - the contract's name
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Response:
    """Return the weights that answer when no version is named."""
    return await _weights(parts, owner, (network, None), if_none_match, format, accept)


@router.get("/{network}/versions/{ref}/weights", summary="Download a version's weights")
async def get_version_weights(
    network: NetworkRef,
    ref: VersionRef,
    parts: Parts,
    owner: Reader,
    if_none_match: IfNoneMatch = None,
    format: Format = None,  # noqa: A002 - the contract's name
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Response:
    """Return a version's weights."""
    return await _weights(parts, owner, (network, ref), if_none_match, format, accept)


async def _weights(
    parts: Parts,
    owner: str,
    place: tuple[str, str | None],
    if_none_match: str | None,
    wanted: str | None,
    accept: str,
) -> Response:
    """Return the native document, or say that no other is offered."""
    kinds = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
    json_will_do = bool(kinds & {"*/*", "application/*", "application/json", ""})
    if wanted not in {None, "json"} or (wanted is None and not json_will_do):
        raise NotAcceptable("weights are offered as json (application/json)")
    found, version = await parts.networks.version(owner, *place)
    body = await parts.networks.document(found, version)
    etag = content_etag(body)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(body, 200, {"ETag": etag}, "application/json")


@router.put(
    "/{network}/weights",
    status_code=201,
    summary="Upload weights",
    response_model=UploadedBody,
    responses={200: {"model": CheckedBody, "description": "With dry_run: it would fit."}},
)
async def put_weights(
    network: NetworkRef,
    document: Document,
    parts: Parts,
    owner: Trainer,
    if_match: IfMatch = None,
    dry_run: DryRun = False,  # noqa: FBT002
) -> Response:
    """Add a version with these weights; layers must have the network's shapes."""
    found, version, notes = await parts.networks.fitted(owner, network, document, store=not dry_run)
    current = None
    if if_match is not None:
        present, latest = await parts.networks.version(owner, network, "latest")
        current = content_etag(await parts.networks.document(present, latest))
        unless_stale(if_match, current)(found)
    if dry_run:
        checked = CheckedBody(
            weights_sha256=version.weights_sha256,
            parameter_count=found.parameter_count,
            notes=list(notes),
        )
        return Response(checked.model_dump_json(), 200, media_type="application/json")
    async with parts.store.write() as work:
        fresh = await parts.networks.fresh(work, owner, found)
        if if_match is not None:
            unless_stale(if_match, current or "")(fresh)
            if fresh.revision != found.revision and not matches(if_match, network_etag(fresh)):
                raise Stale(network_etag(fresh))
        added = await parts.networks.add_version(work, fresh, version)
    fresh = await parts.networks.get(owner, fresh.id)
    body = UploadedBody(**version_fields(fresh, added), notes=list(notes))
    headers = {
        "Location": f"{network_path(fresh)}/versions/{added.number}",
        "ETag": content_etag(version_body(fresh, added).model_dump_json().encode()),
    }
    return Response(body.model_dump_json(), 201, headers, "application/json")
