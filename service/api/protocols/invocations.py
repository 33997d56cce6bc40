"""``/invocations`` and ``/ping``: one door for the protocols that share it."""

import json
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from service.api.body import decode_in_thread_if_large, read_compressed_body
from service.api.dependencies import PredictTenant, Services, ServicesDep, media_type
from service.api.examples import SEVEN
from service.api.protocols.base import InferenceProtocol, InvocationCodec
from service.application.inference.inference import Rows
from service.domain.errors import MalformedBodyError, UnsupportedMediaTypeError

CODES: Final = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "ENDPOINT_NOT_FOUND",
    413: "REQUEST_TOO_LARGE",
    409: "INVALID_STATE",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}
BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {"instances": [SEVEN]},
            },
            "text/csv": {"schema": {"type": "string"}, "example": ",".join(map(str, SEVEN))},
            "application/jsonlines": {"schema": {"type": "string"}, "example": f"{SEVEN}"},
            "application/x-npy": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "application/json": {"schema": {}},
            "text/csv": {"schema": {"type": "string"}},
            "application/jsonlines": {"schema": {"type": "string"}},
            "application/x-npy": {"schema": {"type": "string", "format": "binary"}},
        }
    }
}
FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    **RESPONSES,
    **{
        status: {"description": CODES.get(status, "UNSUPPORTED")}
        for status in (400, 401, 403, 404, 405, 409, 413, 415, 429, 503)
    },
}


def error(status: int, _: str, detail: str) -> Response:
    """Return an error as MLflow tells it; SageMaker looks at the status alone."""
    if status == 415:
        return PlainTextResponse(detail, status)
    status = 400 if status in {409, 422} else status
    body = json.dumps({"error_code": CODES.get(status, "INTERNAL_ERROR"), "message": detail})
    return Response(body, status, media_type="application/json")


async def answer(
    request: Request, services: Services, tenant: str, model: str, codecs: Sequence[InvocationCodec]
) -> Response:
    """Answer an invocation of a network by the first protocol that takes its body."""
    served = await services.inference.load(tenant, model, None)
    kind = media_type(request) or "application/json"
    charset = request.headers.get("content-type", "").lower().partition("charset=")[2].strip('" ')
    if charset not in {"", "utf-8", "utf8"}:
        raise UnsupportedMediaTypeError("the charset must be utf-8")
    body = await read_compressed_body(request, services.limits.inference_bytes)
    if not body:
        raise MalformedBodyError("a body is due")
    spoken = [codec for codec in codecs if kind in codec.kinds]
    if not spoken:
        problem = f"{kind[:80]!r} is not taken here: send JSON, CSV, JSON lines or npy"
        raise UnsupportedMediaTypeError(problem)

    def decoded(data: bytes) -> tuple[InvocationCodec, Rows]:
        # What none takes for its own is told what is wrong with it by the first that could.
        found = (codec for codec in spoken if codec.takes(kind, data))
        codec = next(found, spoken[0])
        return codec, codec.decode(kind, data)

    codec, rows = await decode_in_thread_if_large(services.limits, body, decoded)
    accepted = request.headers.get("accept", "*/*")
    told, told_as = await services.inference.answer(
        served, rows, lambda outputs: codec.encode(outputs, kind, accepted)
    )
    services.metrics.rows(len(rows))
    return Response(told, headers={"content-type": told_as})


def invocations_protocol(codecs: Sequence[InvocationCodec]) -> InferenceProtocol:
    """Return the paths that are there when any of the protocols is."""
    router = APIRouter(tags=["invocations"], responses=FAILURES)

    @router.post("/invocations", summary="Predict by the default network", openapi_extra=BODY)
    async def invocations(
        request: Request, services: ServicesDep, tenant: PredictTenant
    ) -> Response:
        """Answer rows in SageMaker's and MLflow's forms, each in kind."""
        model = await services.inference.default_network(tenant)
        return await answer(request, services, tenant, model, codecs)

    @router.get("/ping", summary="Does it answer?", response_class=PlainTextResponse)
    async def ping(services: ServicesDep) -> Response:
        """Answer 200 while requests are taken, 503 while the server is stopping."""
        return PlainTextResponse("\n", 503 if services.closing.is_set() else 200)

    return InferenceProtocol(router, lambda path: path in {"/invocations", "/ping"}, error)
