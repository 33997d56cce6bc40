"""The inference server of Azure ML: ``/score`` and its description."""

import json
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Response

from core.arrays import Array
from service.api.dependencies import Count, PredictTenant
from service.api.examples import SEVEN
from service.api.protocols.base import (
    FAILURES,
    JSON,
    Call,
    InferenceProtocol,
    InferenceRequest,
    InferenceResponse,
    Operation,
    answered_by_pipeline,
)
from service.api.protocols.tabular import decoded, rows_of, rows_of_split
from service.application.inference.loaded_model import LoadedModel
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
    b"x-request-id": b"x-ms-request-id",
    b"x-ms-client-request-id": b"x-ms-client-request-id",
}
"""Request headers that the response repeats, and their names in the response."""

router = APIRouter(tags=["azure ml"], responses=FAILURES)


class _Score(msgspec.Struct, forbid_unknown_fields=True):
    input_data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, Any] | None = None


@router.post("/score", summary="Predict with the default network", openapi_extra=BODY)
async def score_rows(tenant: PredictTenant) -> Response:
    """Predict rows: ``{"input_data": rows or {"columns", "index", "data"}}`` or ``{"data"}``."""
    return answered_by_pipeline(tenant)


@router.options("/score", include_in_schema=False)
async def score_options() -> Response:
    """Return the allowed methods."""
    return Response(status_code=200, headers={"Allow": "POST, OPTIONS"})


@router.get("/swagger.json", summary="Scoring schema")
async def get_scoring_schema(
    version: Annotated[Count, Query(ge=2, le=3, description="Major version of the format.")] = 2,
) -> dict[str, Any]:
    """Return the description of ``/score`` as Swagger 2 or OpenAPI 3."""
    kind = {"swagger": "2.0"} if version == 2 else {"openapi": "3.0.3"}
    operation = {
        "summary": "Predict with the default network",
        "responses": {"200": {"description": "The outputs of each row."}},
    }
    about = {"title": "neurond", "version": VERSION}
    return {**kind, "info": about, "paths": {"/score": {"post": operation}}}


def _decode(request: InferenceRequest, model: LoadedModel) -> Call:
    """Return the rows of either form; the response repeats the client's trace headers."""
    features = model.network.feature_names
    body = decoded(request.body, _Score)
    if isinstance(body.input_data, msgspec.Raw) == isinstance(body.data, msgspec.Raw):
        raise InvalidRequestError("exactly one of input_data and data is required")
    if isinstance(body.data, msgspec.Raw):
        rows = rows_of(body.data, features)
    else:
        table: bytes = bytes(body.input_data)
        read = rows_of_split if table.lstrip()[:1] == b"{" else rows_of
        rows = read(table, features)
    traces = [
        (returned, value)
        for header, returned in TRACES.items()
        if (value := request.headers.get(header)) is not None and value.isascii()
    ]

    def encode(outputs: Array) -> InferenceResponse:
        return InferenceResponse(msgspec.json.encode(outputs.tolist()), (*JSON, *traces))

    return Call(rows, encode)


def error(status: int, _: str, detail: str) -> Response:
    """Return an error in the format of Azure ML's server."""
    status = 400 if status == 422 else status
    return Response(json.dumps({"message": detail}), status, media_type="application/json")


PROTOCOL: Final = InferenceProtocol(
    router=router,
    owns=lambda path: path in {"/score", "/swagger.json"},
    error=error,
    operations=[Operation("/score", _decode)],
)
