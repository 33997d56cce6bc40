"""The paths of the Open Inference Protocol: health, metadata, inference, statistics, repository."""

from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from core.arrays import Array
from service.api.body import compress
from service.api.dependencies import (
    NetworkRef,
    PredictTenant,
    ReadTenant,
    Services,
    ServicesDep,
)
from service.api.protocols.base import (
    JSON,
    Call,
    InferenceProtocol,
    InferenceRequest,
    InferenceResponse,
    Operation,
    answered_by_pipeline,
    error_text,
)
from service.api.protocols.open_inference import (
    metadata,
    repository,
    statistics,
)
from service.api.protocols.open_inference.decoding import (
    TensorInput,
    check_outputs,
    decode_request,
    json_length,
)
from service.api.protocols.open_inference.encoding import encode_response
from service.api.protocols.open_inference.schemas import (
    FAILURES,
    InferRequest,
    InferResponse,
    ServerMetadata,
    Version,
)
from service.api.strict_json import check_rows
from service.application.inference.loaded_model import LoadedModel
from service.domain.errors import ServiceError
from service.domain.limits import Limits
from service.version import VERSION

EXTENSIONS: Final = [
    "binary_tensor_data",
    "statistics",
    "model_repository",
    "classification",
    "model_configuration",
]
LENGTH: Final = b"inference-header-content-length"
BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}

router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=FAILURES)


class ModelNotLoadedError(ServiceError):
    """A client unloaded the model."""

    code = "bad_request"


@router.get("", summary="Server metadata")
async def get_server_metadata() -> ServerMetadata:
    """Return the name, the version and the supported extensions."""
    return ServerMetadata(name="neurond", version=VERSION, extensions=EXTENSIONS)


@router.get("/", include_in_schema=False)
async def get_server_metadata_with_slash() -> ServerMetadata:
    """Return the server metadata; some clients end the path with a slash."""
    return await get_server_metadata()


@router.get("/health/live", summary="Liveness")
async def check_server_live() -> dict[str, bool]:
    """Return 200 as soon as the server runs."""
    return {"live": True}


@router.get("/health/ready", summary="Readiness")
async def check_server_ready(services: ServicesDep) -> Response:
    """Return 503 while the server is stopping."""
    ready = not services.closing.is_set()
    return JSONResponse({"live": True, "ready": ready}, 200 if ready else 503)


# Before the paths that name a model: no model can be called "stats".
router.include_router(statistics.router)
router.include_router(repository.router)
router.include_router(metadata.router)


@router.get("/models/{model}/ready", summary="Readiness of a model")
async def check_model_ready(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return 200 if the weights can be loaded."""
    _check_enabled(services, await services.inference.load(tenant, model, None), model)
    return {"name": model, "ready": True}


@router.get("/models/{model}/versions/{version}/ready", summary="Readiness of a version")
async def check_version_ready(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return 200 if the weights can be loaded."""
    _check_enabled(services, await services.inference.load(tenant, model, version), model)
    return {"name": model, "ready": True}


@router.post(
    "/models/{model}/infer",
    summary="Infer with a model",
    response_model=InferResponse,
    openapi_extra=BODY,
)
async def infer_with_network(model: NetworkRef, tenant: PredictTenant) -> Response:
    """Return the outputs of a network as JSON or binary tensors, as requested."""
    return answered_by_pipeline(model, tenant)


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Infer with a version",
    response_model=InferResponse,
    openapi_extra=BODY,
)
async def infer_with_version(
    model: NetworkRef, version: Version, tenant: PredictTenant
) -> Response:
    """Return the outputs of a version."""
    return answered_by_pipeline(model, version, tenant)


def _decode(request: InferenceRequest, model: LoadedModel) -> Call:
    forward = model.forward
    tensors = decode_request(request.body, request.header(LENGTH), forward.inputs, forward.dtype)
    if tensors.outputs is not None:
        check_outputs(tensors.outputs, model.classes)
    name = (request.network or "", str(model.version))
    return Call(tensors.rows, partial(_encode, request, tensors, name, model.classes))


def _encode(
    request: InferenceRequest,
    tensors: TensorInput,
    name: tuple[str, str],
    classes: list[str] | None,
    outputs: Array,
) -> InferenceResponse:
    body, length = encode_response(tensors, name, outputs, classes)
    headers = JSON
    if length is not None:
        headers = ((b"content-type", b"application/octet-stream"), (LENGTH, b"%d" % length))
    body, encoding = compress(body, request.header(b"accept-encoding") or "")
    if encoding is not None:
        headers = (*headers, (b"content-encoding", encoding.encode()))
    return InferenceResponse(body, headers)


def _check_large(limits: Limits, model: LoadedModel, request: InferenceRequest) -> None:
    """Raise InvalidRequestError if the JSON of a large body has far too many rows."""
    text = request.body[: json_length(request.header(LENGTH), request.body)]
    check_rows(text, limits, model.forward.inputs)


def _check_enabled(services: Services, model: LoadedModel, name: str) -> None:
    """Raise ModelNotLoadedError if a client unloaded the model."""
    if services.inference.is_disabled(model.network.id):
        raise ModelNotLoadedError(f"the model {name[:200]!r} is not loaded")


PROTOCOL: Final = InferenceProtocol(
    router=router,
    owns=lambda path: path == "/v2" or path.startswith("/v2/"),
    error=error_text,
    operations=[
        Operation(path, _decode, check_large=_check_large, check_model=_check_enabled)
        for path in (
            "/v2/models/{model}/infer",
            "/v2/models/{model}/versions/{version}/infer",
        )
    ],
    schemas=(InferRequest,),
)
