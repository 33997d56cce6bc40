"""``/invocations`` and ``/ping``, which SageMaker and MLflow share."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from service.api.dependencies import PredictTenant, ServicesDep
from service.api.examples import SEVEN
from service.api.protocols.base import (
    Call,
    InferenceProtocol,
    InferenceRequest,
    InvocationCodec,
    Operation,
    answered_by_pipeline,
)
from service.application.inference.loaded_model import LoadedModel
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
    """Return an error in MLflow's form; SageMaker reads the status only."""
    if status == 415:
        return PlainTextResponse(detail, status)
    status = 400 if status in {409, 422} else status
    body = json.dumps({"error_code": CODES.get(status, "INTERNAL_ERROR"), "message": detail})
    return Response(body, status, media_type="application/json")


def decode_invocation(
    codecs: Sequence[InvocationCodec], request: InferenceRequest, model: LoadedModel
) -> Call:
    """Return the call of an invocation, decoded by the first codec that accepts its body.

    If no codec accepts the body, the first candidate decodes it and reports the error.
    """
    content_type = request.header(b"content-type") or "application/json"
    kind, options = (part.strip().lower() for part in content_type.partition(";")[::2])
    charset = options.partition("charset=")[2].strip('" ')
    if charset not in {"", "utf-8", "utf8"}:
        raise UnsupportedMediaTypeError("the charset must be utf-8")
    if not request.body:
        raise MalformedBodyError("a body is required")
    candidates = [codec for codec in codecs if kind in codec.kinds]
    if not candidates:
        problem = f"unsupported media type {kind[:80]!r}: send JSON, CSV, JSON lines or npy"
        raise UnsupportedMediaTypeError(problem)
    accepting = (codec for codec in candidates if codec.accepts(kind, request.body))
    codec = next(accepting, candidates[0])
    accept = request.header(b"accept") or "*/*"
    rows = codec.decode(kind, request.body, model.network.feature_names)
    return Call(rows, lambda outputs: codec.encode(outputs, kind, accept))


def invocations_protocol(codecs: Sequence[InvocationCodec]) -> InferenceProtocol:
    """Return the paths that exist if any of the protocols is enabled."""
    router = APIRouter(tags=["invocations"], responses=FAILURES)

    @router.post("/invocations", summary="Predict with the default network", openapi_extra=BODY)
    async def invoke_default_network(tenant: PredictTenant) -> Response:
        """Predict rows in SageMaker's or MLflow's form, and answer in the same form."""
        return answered_by_pipeline(tenant)

    @router.get("/ping", summary="Liveness", response_class=PlainTextResponse)
    async def ping_container(services: ServicesDep) -> Response:
        """Return 200 while requests are accepted, and 503 while the server is stopping."""
        return PlainTextResponse("\n", 503 if services.closing.is_set() else 200)

    return InferenceProtocol(
        router,
        owns=lambda path: path in {"/invocations", "/ping"},
        error=error,
        operations=[Operation("/invocations", partial(decode_invocation, codecs))],
    )
