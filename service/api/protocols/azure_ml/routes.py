"""The stock server's routes: ``/score``, and a document about it."""

import json
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response

from service.api.body import decode_in_thread_if_large, read_compressed_body
from service.api.dependencies import Count, PredictTenant, ServicesDep
from service.api.examples import SEVEN
from service.api.protocols.base import FAILURES, InferenceProtocol
from service.api.protocols.tabular import Rows, decoded, rows_of, rows_of_split
from service.domain.errors import InvalidRequestError
from service.version import VERSION

BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": {"input_data": [SEVEN]}}
        },
    }
}
TRACES: Final = {
    "x-request-id": "x-ms-request-id",
    "x-ms-client-request-id": "x-ms-client-request-id",
}
"""Headers that are given back, and under which name."""

router = APIRouter(tags=["azure ml"], responses=FAILURES)


class _Score(msgspec.Struct, forbid_unknown_fields=True):
    input_data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, Any] | None = None


@router.post("/score", summary="Predict by the default network", openapi_extra=BODY)
async def score(request: Request, services: ServicesDep, tenant: PredictTenant) -> Response:
    """Answer rows: ``{"input_data": rows or {"columns", "index", "data"}}`` or ``{"data"}``."""
    served = await services.inference.load(
        tenant, await services.inference.default_network(tenant), None
    )
    body = await read_compressed_body(request, services.limits.inference_bytes)
    rows = await decode_in_thread_if_large(services.limits, body, _rows)
    told = await services.inference.answer(
        served, rows, lambda outputs: msgspec.json.encode(outputs.tolist())
    )
    services.metrics.rows(len(rows))
    headers = {
        told: request.headers[given]
        for given, told in TRACES.items()
        if request.headers.get(given, "").isascii() and given in request.headers
    }
    return Response(told, headers=headers, media_type="application/json")


@router.options("/score", include_in_schema=False)
async def score_options() -> Response:
    """Tell the methods."""
    return Response(status_code=200, headers={"Allow": "POST, OPTIONS"})


@router.get("/swagger.json", summary="How is it scored?")
async def swagger(version: Annotated[Count, Query(ge=2, le=3)] = 2) -> dict[str, Any]:
    """Tell the one operation, as Swagger 2 or OpenAPI 3."""
    kind = {"swagger": "2.0"} if version == 2 else {"openapi": "3.0.3"}
    operation = {
        "summary": "Predict by the default network",
        "responses": {"200": {"description": "The outputs of each row."}},
    }
    about = {"title": "neurond", "version": VERSION}
    return {**kind, "info": about, "paths": {"/score": {"post": operation}}}


def _rows(body: bytes) -> Rows:
    """Return the rows of either form."""
    request = decoded(body, _Score)
    if isinstance(request.input_data, msgspec.Raw) == isinstance(request.data, msgspec.Raw):
        raise InvalidRequestError("exactly one of input_data and data is due")
    if isinstance(request.data, msgspec.Raw):
        return rows_of(request.data)
    table: bytes = bytes(request.input_data)
    return rows_of_split(table) if table.lstrip()[:1] == b"{" else rows_of(table)


def error(status: int, _: str, detail: str) -> Response:
    """Return an error as the stock server does."""
    status = 400 if status == 422 else status
    return Response(json.dumps({"message": detail}), status, media_type="application/json")


PROTOCOL: Final = InferenceProtocol(
    router=router, owns=lambda path: path in {"/score", "/swagger.json"}, error=error
)
