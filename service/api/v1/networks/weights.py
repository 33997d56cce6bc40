"""Weights: downloads, uploads and imports, as JSON documents and as files."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from service.api.body import check_json_type, check_not_compressed, read_body
from service.api.dependencies import (
    Idempotency,
    IfMatch,
    IfNoneMatch,
    NetworkRef,
    ReadTenant,
    Services,
    ServicesDep,
    UploadTenant,
    VersionRef,
    media_type,
)
from service.api.encoding import answer, saved
from service.api.etags import content_etag, matches, network_etag, unless_stale
from service.api.routing import WeightsRoute
from service.api.schemas import Name
from service.api.strict_json import parse_json
from service.api.v1.networks.schemas import (
    CheckedBody,
    ImportedBody,
    ImportReport,
    UploadedBody,
    network_fields,
    network_path,
    version_body,
    version_fields,
)
from service.application.networks.weights import Parsed
from service.application.ports import StoredResponse, UnitOfWork
from service.domain.errors import InvalidRequestError, MalformedBodyError, PreconditionFailedError
from service.domain.networks import NetworkRecord

router = APIRouter(prefix="/v1/networks", tags=["networks"], route_class=WeightsRoute)

EXAMPLE: Final = {
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
FILE: Final = {"schema": {"type": "string", "format": "binary"}}
BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": EXAMPLE},
            "application/x-npz": FILE,
            "application/vnd.safetensors": FILE,
            "application/onnx": FILE,
        },
    }
}
FORMATS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/x-npz": FILE,
            "application/vnd.safetensors": FILE,
            "application/onnx": FILE,
            "text/x-python": {"schema": {"type": "string"}},
            "text/javascript": {"schema": {"type": "string"}},
        }
    }
}
Format = Annotated[
    str | None,
    Query(
        description="json, the native document; npz, safetensors or onnx; python or javascript, "
        "a file that classifies by itself. It wins over Accept."
    ),
]
Accepted = Annotated[str, Header(include_in_schema=False)]
DryRun = Annotated[bool, Query(description="Check everything, and store nothing.")]


@router.post(
    "/import",
    status_code=201,
    summary="Import a network",
    response_model=ImportedBody,
    openapi_extra=BODY,
)
async def import_network(
    request: Request,
    services: ServicesDep,
    tenant: UploadTenant,
    idempotency: Idempotency,
    name: Annotated[Name | None, Query(openapi_examples={"here": {"value": "imported"}})] = None,
) -> Response:
    """Make a network of weights.

    A document of ours, of the JavaScript original in both its shapes, or of scikit-learn's
    numbers; a file as npz, safetensors or ONNX.
    """
    first = await services.idempotent_requests.stored_response(idempotency)
    if first is not None:
        return answer((first, True))
    format_name, model = await _model(request, services)
    unsaved = await services.networks.import_model(tenant, model, name)

    async def create(work: UnitOfWork) -> StoredResponse:
        network = await services.networks.add(work, unsaved)
        report = ImportReport(format=format_name, notes=list(unsaved.notes))
        body = ImportedBody(**network_fields(network), import_report=report)
        headers = {"Location": network_path(network), "ETag": network_etag(network)}
        return saved(201, body, headers)

    return answer(await services.idempotent_requests.run(idempotency, create))


@router.get("/{network}/weights", summary="Download weights", responses=FORMATS)
async def get_weights(
    network: NetworkRef,
    services: ServicesDep,
    tenant: ReadTenant,
    if_none_match: IfNoneMatch = None,
    format: Format = None,  # noqa: A002 - the contract's name
    accept: Accepted = "*/*",
) -> Response:
    """Return the weights that answer when no version is named."""
    wanted = services.weights.offered(format, accept)
    return await _weights(services, tenant, (network, None), if_none_match, wanted)


@router.get(
    "/{network}/versions/{ref}/weights", summary="Download a version's weights", responses=FORMATS
)
async def get_version_weights(
    network: NetworkRef,
    ref: VersionRef,
    services: ServicesDep,
    tenant: ReadTenant,
    if_none_match: IfNoneMatch = None,
    format: Format = None,  # noqa: A002 - the contract's name
    accept: Accepted = "*/*",
) -> Response:
    """Return a version's weights."""
    wanted = services.weights.offered(format, accept)
    return await _weights(services, tenant, (network, ref), if_none_match, wanted)


async def _weights(
    services: Services,
    tenant: str,
    place: tuple[str, str | None],
    if_none_match: str | None,
    wanted: str,
) -> Response:
    """Return the document or the file."""
    found, version = await services.networks.version(tenant, *place)
    exported = await services.weights.exported(found, version, wanted)
    etag = content_etag(exported.data)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag, "Vary": "Accept"})
    headers = {"ETag": etag, "Vary": "Accept", **exported.headers}
    if wanted != "json":
        # Escaped after RFC 8187: a name holds what it likes, a header must not.
        name = quote(exported.filename, safe="")
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
    return Response(exported.data, 200, headers, exported.media_type)


@router.put(
    "/{network}/weights",
    status_code=201,
    summary="Upload weights",
    response_model=UploadedBody,
    responses={200: {"model": CheckedBody, "description": "With dry_run: it would fit."}},
    openapi_extra=BODY,
)
async def put_weights(
    network: NetworkRef,
    request: Request,
    services: ServicesDep,
    tenant: UploadTenant,
    if_match: IfMatch = None,
    dry_run: DryRun = False,  # noqa: FBT002
) -> Response:
    """Add a version with these weights; layers must have the network's shapes."""
    found = await services.networks.get(tenant, network)
    _, model = await _model(request, services)
    version, notes = await services.weights.load_weights(found, model, persist=not dry_run)
    current = None
    if if_match is not None:
        present, latest = await services.networks.version(tenant, network, "latest")
        current = content_etag((await services.weights.exported(present, latest, "json")).data)
        unless_stale(if_match, current)(found)
    if dry_run:
        checked = CheckedBody(
            weights_sha256=version.weights_sha256,
            parameter_count=found.parameter_count,
            notes=list(notes),
        )
        return Response(checked.model_dump_json(), 200, media_type="application/json")

    def still(fresh: NetworkRecord) -> None:
        """Refuse what has changed since the weights were looked at, where that matters."""
        unless_stale(if_match, current or "")(fresh)
        moved = fresh.revision != found.revision and not matches(if_match, network_etag(fresh))
        if if_match is not None and moved:
            raise PreconditionFailedError(network_etag(fresh))

    fresh, added = await services.networks.upload(tenant, found.id, version, still)
    body = UploadedBody(**version_fields(fresh, added), notes=list(notes))
    headers = {
        "Location": f"{network_path(fresh)}/versions/{added.number}",
        "ETag": content_etag(version_body(fresh, added).model_dump_json().encode()),
    }
    return Response(body.model_dump_json(), 201, headers, "application/json")


async def _model(request: Request, services: Services) -> Parsed:
    """Return format and model of the body, by its media type."""
    kind = media_type(request)
    if kind in services.weights.media_types:
        check_not_compressed(request)
        data = await read_body(request, services.limits.weights_bytes)
        return await services.weights.parsed_file(data, kind)
    check_not_compressed(request)
    check_json_type(request.headers.get("content-type"), sorted(services.weights.media_types))
    body = await read_body(request, services.limits.weights_bytes)
    if not body:
        raise MalformedBodyError("a weights document is due")
    large = len(body) > services.limits.inline_bytes
    document = await run_in_threadpool(parse_json, body) if large else parse_json(body)
    if not isinstance(document, dict):
        raise InvalidRequestError.at("", "object_type", "a weights document is an object")
    return await services.weights.parsed(document)
