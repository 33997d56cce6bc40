"""The protocol's paths: health, metadata, inference, statistics and the model repository."""

import time
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from service.api.dependencies import NetworkRef, Parts, Predictor, Reader, Services, Trainer
from service.api.dialect import Dialect, error_text
from service.api.hot import Array, Asked, HotAnswer, HotRequest
from service.api.protocols.open_inference import codec
from service.api.protocols.open_inference.schemas import (
    Failure,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ServerMetadata,
    TensorMetadata,
)
from service.api.raw import check_rows, packed, read_packed
from service.application.ports import Page
from service.application.served import Served, Statistics
from service.domain.errors import InvalidRequest, ServiceError
from service.domain.limits import Limits
from service.domain.networks import Network
from service.version import VERSION

EXTENSIONS: Final = [
    "binary_tensor_data",
    "statistics",
    "model_repository",
    "classification",
    "model_configuration",
]
PLATFORM: Final = "neurond_numpy"
LENGTH: Final = "inference-header-content-length"
FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Failure} for status in (400, 401, 403, 404, 413, 415, 429, 503)
}
Version = Annotated[
    str,
    Path(
        description='Number, alias, "latest" or "live".',
        openapi_examples={"here": {"value": "0"}},
    ),
]
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


class NotLoaded(ServiceError):
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
async def ready(parts: Parts) -> Response:
    """Answer 503 while the server is stopping."""
    is_ready = not parts.closing.is_set()
    return _json({"live": True, "ready": is_ready}, 200 if is_ready else 503)


@router.get("/models/stats", summary="What was every network asked?")
async def all_statistics(parts: Parts, owner: Reader) -> dict[str, Any]:
    """Tell the counts and times of every network since the server started."""
    told = []
    for network in await _networks(parts, owner):
        told += _statistics(parts, network, None)
    return {"model_stats": told}


@router.post("/repository/index", summary="Which networks are there?")
async def repository_index(request: Request, parts: Parts, owner: Reader) -> Response:
    """List the latest version of every network, and whether it answers."""
    body = await read_packed(request, parts.limits.json_bytes)
    wanted = _object(body)
    if not isinstance(wanted.get("ready", False), bool):
        raise InvalidRequest("ready is true or false")
    told = []
    for network in await _networks(parts, owner):
        parked = parts.inference.parked(network.id)
        if parked and wanted.get("ready"):
            continue
        state = ("UNAVAILABLE", "unloaded") if parked else ("READY", "")
        told.append(
            {
                "name": network.name,
                "version": str(network.latest_version),
                "state": state[0],
                "reason": state[1],
            }
        )
    return _json(told)


@router.post("/repository/models/{model}/load", summary="Load a network", response_class=Response)
async def load(model: NetworkRef, request: Request, parts: Parts, owner: Trainer) -> Response:
    """Let a network answer here again, and read its weights now."""
    _object(await read_packed(request, parts.limits.json_bytes))
    served = await parts.inference.served(owner, model, None)
    parts.inference.park(served.network.id, parked=False)
    return Response(status_code=200)


@router.post(
    "/repository/models/{model}/unload", summary="Unload a network", response_class=Response
)
async def unload(model: NetworkRef, request: Request, parts: Parts, owner: Trainer) -> Response:
    """Let a network answer no more by this protocol, until it is loaded."""
    _object(await read_packed(request, parts.limits.json_bytes))
    network = await parts.networks.get(owner, model)
    parts.inference.park(network.id, parked=True)
    return Response(status_code=200)


@router.get("/models/{model}", summary="What does a network take and give?")
async def model_metadata(model: NetworkRef, parts: Parts, owner: Reader) -> ModelMetadata:
    """Tell the tensors of the version that answers when none is named."""
    return _metadata(model, (await parts.inference.served(owner, model, None)))


@router.get("/models/{model}/versions/{version}", summary="What does a version take and give?")
async def version_metadata(
    model: NetworkRef, version: Version, parts: Parts, owner: Reader
) -> ModelMetadata:
    """Tell the tensors of a version."""
    return _metadata(model, (await parts.inference.served(owner, model, version)))


@router.get("/models/{model}/ready", summary="Does a network answer?")
async def model_ready(model: NetworkRef, parts: Parts, owner: Reader) -> dict[str, Any]:
    """Answer when the weights are there and sound."""
    await _served(parts, owner, model, None)
    return {"name": model, "ready": True}


@router.get("/models/{model}/versions/{version}/ready", summary="Does a version answer?")
async def version_ready(
    model: NetworkRef, version: Version, parts: Parts, owner: Reader
) -> dict[str, Any]:
    """Answer when the weights are there and sound."""
    await _served(parts, owner, model, version)
    return {"name": model, "ready": True}


@router.get("/models/{model}/config", summary="How is a network set up?")
async def model_configuration(model: NetworkRef, parts: Parts, owner: Reader) -> dict[str, Any]:
    """Tell the configuration, in Triton's form."""
    return _configuration(model, parts, await parts.inference.served(owner, model, None))


@router.get("/models/{model}/versions/{version}/config", summary="How is a version set up?")
async def version_configuration(
    model: NetworkRef, version: Version, parts: Parts, owner: Reader
) -> dict[str, Any]:
    """Tell the configuration of a version."""
    return _configuration(model, parts, await parts.inference.served(owner, model, version))


@router.get("/models/{model}/stats", summary="What was a network asked?")
async def model_statistics(model: NetworkRef, parts: Parts, owner: Reader) -> dict[str, Any]:
    """Tell the counts and times of each version since the server started."""
    network = await parts.networks.get(owner, model)
    return {"model_stats": _statistics(parts, network, None)}


@router.get("/models/{model}/versions/{version}/stats", summary="What was a version asked?")
async def version_statistics(
    model: NetworkRef, version: Version, parts: Parts, owner: Reader
) -> dict[str, Any]:
    """Tell the counts and times of a version since the server started."""
    network, found = await parts.networks.version(owner, model, version)
    return {"model_stats": _statistics(parts, network, found.number)}


@router.post(
    "/models/{model}/infer", summary="Infer", response_model=InferResponse, openapi_extra=BODY
)
async def infer(model: NetworkRef, request: Request, parts: Parts, owner: Predictor) -> Response:
    """Return a network's outputs; JSON or binary tensors, as the request has them."""
    return await _infer(request, parts, await _served(parts, owner, model, None), model)


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Infer by a version",
    response_model=InferResponse,
    openapi_extra=BODY,
)
async def infer_by_version(
    model: NetworkRef, version: Version, request: Request, parts: Parts, owner: Predictor
) -> Response:
    """Return the outputs of a version."""
    return await _infer(request, parts, await _served(parts, owner, model, version), model)


async def _infer(request: Request, parts: Services, served: Served, model: str) -> Response:
    body = await read_packed(request, parts.limits.inference_bytes)
    length = request.headers.get(LENGTH)
    begun = time.perf_counter_ns()
    try:
        # A long body takes longer to decode than the loop may stand still.
        if len(body) > parts.limits.inline_bytes:
            call = await run_in_threadpool(_checked, parts.limits, served, body, length)
        else:
            call = _decoded(served, body, length)
    except InvalidRequest:
        served.statistics.failed()
        raise
    decoding = time.perf_counter_ns() - begun
    place = (model, str(served.version))
    accepted = request.headers.get("accept-encoding", "")
    write = partial(_encoded, served, call, place, decoding, accepted)
    body, headers = await parts.inference.answer(served, call.rows, write)
    parts.metrics.rows(len(call.rows))
    return Response(body, headers={key.decode(): value.decode() for key, value in headers})


def hot_infer(parts: Services, served: Served, request: HotRequest) -> Asked | None:
    """Infer on the loop."""
    if parts.inference.parked(served.network.id):
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


def _checked(limits: Limits, served: Served, body: bytes, length: str | None) -> codec.Request:
    """Return a long request, whose JSON may not hold far more rows than a call may have."""
    text = body[: codec.json_length(length, body)]
    check_rows(text, limits)
    if text.count(b",") > 2 * limits.rows_per_call * served.forward.inputs:
        raise InvalidRequest(f"a call takes 1 to {limits.rows_per_call} rows")
    return _decoded(served, body, length)


def _decoded(served: Served, body: bytes, length: str | None) -> codec.Request:
    """Return the request."""
    call = codec.decode(body, length, served.forward.inputs, served.forward.dtype.name)
    codec.check_outputs(call.wanted, served.classes)
    return call


def _encoded(
    served: Served,
    call: codec.Request,
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
    body, encoding = packed(body, accepted)
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


async def _served(parts: Services, owner: str, model: str, version: str | None) -> Served:
    """Return a version that a client has not unloaded."""
    served = await parts.inference.served(owner, model, version)
    if parts.inference.parked(served.network.id):
        raise NotLoaded(f"the model {model[:200]!r} is not loaded")
    return served


async def _networks(parts: Services, owner: str) -> list[Network]:
    """Return every network, newest first."""
    found: list[Network] = []
    after = None
    while True:
        page = await parts.networks.page(owner, Page(500, after))
        found += page[:500]
        if len(page) <= 500:
            return found
        after = found[-1].id


def _tensors(served: Served) -> tuple[list[TensorMetadata], list[TensorMetadata]]:
    """Return what goes in and what comes out."""
    datatype = codec.FLOAT_NAMES[served.forward.dtype.name]
    inputs = [
        TensorMetadata(name=codec.INPUT, datatype=datatype, shape=[-1, served.forward.inputs])
    ]
    outputs = [
        TensorMetadata(name=codec.OUTPUT, datatype=datatype, shape=[-1, served.forward.units])
    ]
    if served.classes is not None:
        outputs.append(TensorMetadata(name=codec.LABEL, datatype="BYTES", shape=[-1]))
    return inputs, outputs


def _metadata(model: str, served: Served) -> ModelMetadata:
    inputs, outputs = _tensors(served)
    versions = [str(number) for number in range(served.network.latest_version + 1)]
    return ModelMetadata(
        name=model, versions=versions, platform=PLATFORM, inputs=inputs, outputs=outputs
    )


def _configuration(model: str, parts: Services, served: Served) -> dict[str, Any]:
    inputs, outputs = _tensors(served)
    kinds = {"BYTES": "STRING"}
    told = {
        name: [
            {
                "name": tensor.name,
                "data_type": f"TYPE_{kinds.get(tensor.datatype, tensor.datatype)}",
                "dims": tensor.shape[1:] or [1],
            }
            for tensor in tensors
        ]
        for name, tensors in (("input", inputs), ("output", outputs))
    }
    return {
        "name": model,
        "platform": PLATFORM,
        "backend": "neurond",
        "max_batch_size": parts.limits.rows_per_call,
        **told,
        "version_policy": {"all": {}},
    }


def _statistics(parts: Services, network: Network, only: int | None) -> list[dict[str, Any]]:
    """Return Triton's counts for the versions of a network that were asked anything."""
    counted = parts.inference.statistics(network.id)
    if only is not None:
        counted = {only: counted.get(only, Statistics())}
    elif not counted:
        counted = {network.latest_version: Statistics()}
    return [_told(network.name, number, counts) for number, counts in sorted(counted.items())]


def _told(name: str, number: int, counts: Statistics) -> dict[str, Any]:
    none = {"count": 0, "ns": 0}
    infer = {"count": counts.executions, "ns": counts.nanoseconds}
    answered = {"count": counts.requests, "ns": counts.nanoseconds}
    return {
        "name": name,
        "version": str(number),
        "last_inference": int(counts.last_at * 1000),
        "inference_count": counts.rows,
        "execution_count": counts.executions,
        "inference_stats": {
            "success": answered,
            "fail": {"count": counts.failures, "ns": 0},
            "queue": none,  # nothing waits longer than a turn of the event loop
            "compute_input": {"count": counts.executions, "ns": counts.decoding},
            "compute_infer": infer,
            "compute_output": {"count": counts.executions, "ns": counts.encoding},
            "cache_hit": none,
            "cache_miss": none,
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": {"count": count, "ns": decoding},
                "compute_infer": {"count": count, "ns": nanoseconds},
                "compute_output": {"count": count, "ns": encoding},
            }
            for rows, (count, nanoseconds, decoding, encoding) in sorted(counts.by_batch.items())
        ],
        "memory_usage": [],
    }


def _object(body: bytes) -> dict[str, Any]:
    """Return a body that may be empty as a JSON object."""
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidRequest(f"the request cannot be read: {problem}") from problem


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


DIALECT: Final = Dialect(
    router=router,
    owns=lambda path: path == "/v2" or path.startswith("/v2/"),
    error=error_text,
    hot={("v2", "models", "infer"): hot_infer},
    schemas=(InferRequest,),
)
