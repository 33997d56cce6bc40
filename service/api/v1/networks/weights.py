"""Weights: download, upload and import, as JSON documents and as files."""

from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response

from service.api.body import check_json_type, read_body
from service.api.dependencies import (
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
from service.api.etags import content_etag, matches, network_etag, unless_stale
from service.api.idempotency import Idempotent, stored
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
from service.application.ports.database import UnitOfWork
from service.application.ports.repositories import StoredResponse
from service.domain.errors import InvalidRequestError, MalformedBodyError
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
        description="json (the native document), npz, safetensors, onnx, python or javascript "
        "(a program that classifies by itself). It takes precedence over Accept."
    ),
]
Accepted = Annotated[str, Header(include_in_schema=False)]
DryRun = Annotated[bool, Query(description="Validate the weights, store nothing.")]


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
    creation: Idempotent,
    name: Annotated[Name | None, Query(openapi_examples={"here": {"value": "imported"}})] = None,
) -> Response:
    """Create a network from weights.

    Accepts a native document, a document of the original JavaScript project in both its forms or
    of scikit-learn's coefficients, and npz, safetensors and ONNX files.
    """
    format_name, model = await _read_model(request, services)
    unsaved = await services.networks.import_model(tenant, model, name)

    async def create(work: UnitOfWork) -> StoredResponse:
        network = await services.networks.add(work, unsaved)
        report = ImportReport(format=format_name, notes=list(unsaved.notes))
        body = ImportedBody(**network_fields(network), import_report=report)
        headers = {"Location": network_path(network), "ETag": network_etag(network)}
        return stored(201, body, headers)

    return await creation.run(create)


@router.get("/{network}/weights", summary="Download weights", responses=FORMATS)
async def get_weights(
    network: NetworkRef,
    services: ServicesDep,
    tenant: ReadTenant,
    if_none_match: IfNoneMatch = None,
    format: Format = None,  # noqa: A002 - the contract's name
    accept: Accepted = "*/*",
) -> Response:
    """Return the weights of the version that is used if none is named."""
    format_name = services.weights.offered(format, accept)
    return await _export(services, tenant, (network, None), if_none_match, format_name)


@router.get(
    "/{network}/versions/{ref}/weights",
    summary="Download the weights of a version",
    responses=FORMATS,
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
    format_name = services.weights.offered(format, accept)
    return await _export(services, tenant, (network, ref), if_none_match, format_name)


async def _export(
    services: Services,
    tenant: str,
    reference: tuple[str, str | None],
    if_none_match: str | None,
    format_name: str,
) -> Response:
    """Return the weights of a version as a document or a file."""
    network, version = await services.networks.version(tenant, *reference)
    exported = await services.weights.exported(network, version, format_name)
    etag = content_etag(exported.data)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag, "Vary": "Accept"})
    headers = {"ETag": etag, "Vary": "Accept", **exported.headers}
    if format_name != "json":
        # Escaped after RFC 8187: a name may hold characters that a header must not.
        filename = quote(exported.filename, safe="")
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{filename}"
    return Response(exported.data, 200, headers, exported.media_type)


@router.put(
    "/{network}/weights",
    status_code=201,
    summary="Upload weights",
    response_model=UploadedBody,
    responses={200: {"model": CheckedBody, "description": "With dry_run: the weights are valid."}},
    openapi_extra=BODY,
)
async def upload_weights(
    network: NetworkRef,
    request: Request,
    services: ServicesDep,
    tenant: UploadTenant,
    if_match: IfMatch = None,
    dry_run: DryRun = False,  # noqa: FBT002
) -> Response:
    """Add a version with these weights; the layers must have the network's shapes."""
    await services.networks.get(tenant, network)  # before the body is read
    _, model = await _read_model(request, services)
    precondition = None if if_match is None else partial(_check_precondition, if_match)
    if dry_run:
        upload = await services.weight_upload.check(tenant, network, model, precondition)
        checked = CheckedBody(
            weights_sha256=upload.version.weights_sha256,
            parameter_count=upload.network.parameter_count,
            notes=list(upload.notes),
        )
        return Response(checked.model_dump_json(), 200, media_type="application/json")
    upload = await services.weight_upload.add(tenant, network, model, precondition)
    record, version = upload.network, upload.version
    body = UploadedBody(**version_fields(record, version), notes=list(upload.notes))
    headers = {
        "Location": f"{network_path(record)}/versions/{version.number}",
        "ETag": content_etag(version_body(record, version).model_dump_json().encode()),
    }
    return Response(body.model_dump_json(), 201, headers, "application/json")


def _check_precondition(if_match: str, network: NetworkRecord, document: bytes | None) -> None:
    """Raise PreconditionFailedError unless If-Match names the network or its latest weights."""
    tags = [] if document is None else [content_etag(document)]
    unless_stale(if_match, *tags)(network)


async def _read_model(request: Request, services: Services) -> Parsed:
    """Return the format and the model of a body, by its media type."""
    kind = media_type(request)
    limit = services.limits.weights_bytes
    if kind in services.weights.media_types:
        sent = await read_body(request, limit)
        data = await services.large_bodies.decode(sent, limit, bytes)
        return await services.weights.parsed_file(data, kind)
    check_json_type(request.headers.get("content-type"), sorted(services.weights.media_types))
    sent = await read_body(request, limit)
    if not sent.data:
        raise MalformedBodyError("a weights document is required")
    document = await services.large_bodies.decode(sent, limit, parse_json)
    if not isinstance(document, dict):
        raise InvalidRequestError.at("", "object_type", "a weights document must be an object")
    return await services.weights.parsed(document)
