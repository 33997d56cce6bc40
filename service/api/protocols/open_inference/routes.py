"""The protocol's paths: health, metadata, inference, statistics and the model repository."""

import time
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from service.api.body import check_row_count, compress, read_compressed_body
from service.api.dependencies import NetworkRef, PredictTenant, ReadTenant, Services, ServicesDep
from service.api.hot import Array, Asked, HotAnswer, HotRequest
from service.api.protocols.base import InferenceProtocol, error_text
from service.api.protocols.open_inference import codec, metadata, repository, statistics
from service.api.protocols.open_inference.schemas import (
    FAILURES,
    InferRequest,
    InferResponse,
    ServerMetadata,
    Version,
)
from service.application.inference.loaded_model import LoadedModel
from service.domain.errors import InvalidRequestError, ServiceError
from service.domain.limits import Limits
from service.version import VERSION

EXTENSIONS: Final = [
    "binary_tensor_data",
    "statistics",
    "model_repository",
    "classification",
    "model_configuration",
]
LENGTH: Final = "inference-header-content-length"
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


@router.get("", summary="What is this server?")
async def server_metadata() -> ServerMetadata:
    """Tell name, version and the extensions that are spoken."""
    return ServerMetadata(name="neurond", version=VERSION, extensions=EXTENSIONS)


@router.get("/", include_in_schema=False)
async def server_metadata_with_slash() -> ServerMetadata:
    """Tell the same; some clients end the path with a slash."""
    return await server_metadata()


@router.get("/health/live", summary="Is it alive?")
async def live() -> dict[str, bool]:
    """Answer as soon as the server runs."""
    return {"live": True}


@router.get("/health/ready", summary="May it be sent requests?")
async def ready(services: ServicesDep) -> Response:
    """Answer 503 while the server is stopping."""
    is_ready = not services.closing.is_set()
    return JSONResponse({"live": True, "ready": is_ready}, 200 if is_ready else 503)


# Before the paths that name a model: none can be called "stats".
router.include_router(statistics.router)
router.include_router(repository.router)
router.include_router(metadata.router)


@router.get("/models/{model}/ready", summary="Does a network answer?")
async def model_ready(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Answer when the weights are there and sound."""
    await _load(services, tenant, model, None)
    return {"name": model, "ready": True}


@router.get("/models/{model}/versions/{version}/ready", summary="Does a version answer?")
async def version_ready(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Answer when the weights are there and sound."""
    await _load(services, tenant, model, version)
    return {"name": model, "ready": True}


@router.post(
    "/models/{model}/infer", summary="Infer", response_model=InferResponse, openapi_extra=BODY
)
async def infer(
    model: NetworkRef, request: Request, services: ServicesDep, tenant: PredictTenant
) -> Response:
    """Return a network's outputs; JSON or binary tensors, as the request has them."""
    return await _infer(request, services, await _load(services, tenant, model, None), model)


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Infer by a version",
    response_model=InferResponse,
    openapi_extra=BODY,
)
async def infer_by_version(
    model: NetworkRef,
    version: Version,
    request: Request,
    services: ServicesDep,
    tenant: PredictTenant,
) -> Response:
    """Return the outputs of a version."""
    return await _infer(request, services, await _load(services, tenant, model, version), model)


async def _infer(request: Request, services: Services, served: LoadedModel, model: str) -> Response:
    body = await read_compressed_body(request, services.limits.inference_bytes)
    length = request.headers.get(LENGTH)
    begun = time.perf_counter_ns()
    try:
        # A long body takes longer to decode than the loop may stand still.
        if len(body) > services.limits.inline_bytes:
            call = await run_in_threadpool(_checked, services.limits, served, body, length)
        else:
            call = _decoded(served, body, length)
    except InvalidRequestError:
        served.statistics.failed()
        raise
    decoding = time.perf_counter_ns() - begun
    place = (model, str(served.version))
    accepted = request.headers.get("accept-encoding", "")
    write = partial(_encoded, served, call, place, decoding, accepted)
    body, headers = await services.inference.answer(served, call.rows, write)
    services.metrics.rows(len(call.rows))
    return Response(body, headers={key.decode(): value.decode() for key, value in headers})


def hot_infer(services: Services, served: LoadedModel, request: HotRequest) -> Asked | None:
    """Infer on the loop."""
    if services.inference.is_disabled(served.network.id):
        return None
    length = request.headers.get(LENGTH.encode())
    begun = time.perf_counter_ns()
    call = _decoded(served, request.body, None if length is None else length.decode())
    decoding = time.perf_counter_ns() - begun
    place = (request.model, str(served.version))
    accepted = request.headers.get(b"accept-encoding", b"").decode()

    def answer(outputs: Array) -> HotAnswer:
        body, headers = _encoded(served, call, place, decoding, accepted, outputs)
        return HotAnswer(body, b"".join(b"%s: %s\r\n" % header for header in headers))

    return Asked(call.rows, answer)


def _checked(
    limits: Limits, served: LoadedModel, body: bytes, length: str | None
) -> codec.TensorInput:
    """Return a long request, whose JSON may not hold far more rows than a call may have."""
    text = body[: codec.json_length(length, body)]
    check_row_count(text, limits)
    if text.count(b",") > 2 * limits.rows_per_call * served.forward.inputs:
        raise InvalidRequestError(f"a call takes 1 to {limits.rows_per_call} rows")
    return _decoded(served, body, length)


def _decoded(served: LoadedModel, body: bytes, length: str | None) -> codec.TensorInput:
    """Return the request."""
    call = codec.decode(body, length, served.forward.inputs, served.forward.dtype.name)
    codec.check_outputs(call.wanted, served.classes)
    return call


def _encoded(
    served: LoadedModel,
    call: codec.TensorInput,
    place: tuple[str, str],
    decoding: int,
    accepted: str,
    outputs: Array,
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return body and headers of the answer, and count the time that bodies took."""
    begun = time.perf_counter_ns()
    body, length = codec.encode(call, place, outputs, served.classes)
    served.statistics.coded(len(outputs), decoding, time.perf_counter_ns() - begun)
    headers = _headers(length)
    body, encoding = compress(body, accepted)
    if encoding is not None:
        headers.append((b"content-encoding", encoding.encode()))
    return body, headers


def _headers(length: int | None) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer whose JSON is that long; None where all is JSON."""
    if length is None:
        return [(b"content-type", b"application/json")]
    return [
        (b"content-type", b"application/octet-stream"),
        (LENGTH.encode(), b"%d" % length),
    ]


async def _load(services: Services, tenant: str, model: str, version: str | None) -> LoadedModel:
    """Return a version that a client has not unloaded."""
    served = await services.inference.load(tenant, model, version)
    if services.inference.is_disabled(served.network.id):
        raise ModelNotLoadedError(f"the model {model[:200]!r} is not loaded")
    return served


PROTOCOL: Final = InferenceProtocol(
    router=router,
    owns=lambda path: path == "/v2" or path.startswith("/v2/"),
    error=error_text,
    hot={("v2", "models", "infer"): hot_infer},
    schemas=(InferRequest,),
)
