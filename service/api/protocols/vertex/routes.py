"""Custom containers of Vertex AI: two routes, at the paths that the platform's variables name."""

import json
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Response

from core.arrays import Array
from service.api.dependencies import PredictTenant, ServicesDep
from service.api.examples import SEVEN
from service.api.protocols.base import (
    FAILURES,
    Call,
    InferenceProtocol,
    InferenceRequest,
    InferenceResponse,
    Operation,
    answered_by_pipeline,
)
from service.api.protocols.tabular import decoded, rows_of
from service.application.inference.loaded_model import LoadedModel

BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": {"instances": [SEVEN]}}
        },
    }
}


class _Predict(msgspec.Struct, forbid_unknown_fields=True):
    instances: msgspec.Raw
    parameters: dict[str, Any] | None = None


def _decode(request: InferenceRequest, model: LoadedModel) -> Call:
    instances = decoded(request.body, _Predict).instances
    return Call(rows_of(instances, model.network.feature_names), _encode)


def _encode(outputs: Array) -> InferenceResponse:
    return InferenceResponse(msgspec.json.encode({"predictions": outputs.tolist()}))


def error(status: int, _: str, detail: str) -> Response:
    """Return an error in the form of Google's APIs."""
    body = json.dumps({"error": {"code": status, "message": detail}})
    return Response(body, status, media_type="application/json")


def protocol(health_route: str | None, predict_route: str | None) -> InferenceProtocol:
    """Return the protocol at these paths; a path that is None does not exist."""
    router = APIRouter(tags=["vertex"], responses=FAILURES)

    async def check_vertex_health(services: ServicesDep) -> Response:
        """Return 200 while requests are accepted, and 503 while the server is stopping."""
        status = 503 if services.closing.is_set() else 200
        return Response("{}", status, media_type="application/json")

    async def predict_vertex_instances(tenant: PredictTenant) -> Response:
        """Predict rows with the default network."""
        return answered_by_pipeline(tenant)

    operations = []
    if health_route is not None:
        router.add_api_route(health_route, check_vertex_health, summary="Liveness")
    if predict_route is not None:
        operations.append(Operation(predict_route, _decode))
        router.add_api_route(
            predict_route,
            predict_vertex_instances,
            methods=["POST"],
            summary="Predict with the default network",
            openapi_extra=BODY,
        )
    paths = {health_route, predict_route} - {None}
    return InferenceProtocol(router, paths.__contains__, error, operations)
