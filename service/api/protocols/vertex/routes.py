"""Two routes, at the paths that the platform names in its variables."""

import json
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response

from service.api.body import decode_in_thread_if_large, read_compressed_body
from service.api.dependencies import PredictTenant, ServicesDep
from service.api.examples import SEVEN
from service.api.protocols.base import FAILURES, InferenceProtocol
from service.api.protocols.tabular import Rows, decoded, rows_of

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


def _rows(body: bytes) -> Rows:
    return rows_of(decoded(body, _Predict).instances)


def error(status: int, _: str, detail: str) -> Response:
    """Return an error as Google's APIs tell it."""
    body = json.dumps({"error": {"code": status, "message": detail}})
    return Response(body, status, media_type="application/json")


def dialect(health_route: str | None, predict_route: str | None) -> InferenceProtocol:
    """Return the protocol at these paths; a path that is not named is not there."""
    router = APIRouter(tags=["vertex"], responses=FAILURES)

    async def health(services: ServicesDep) -> Response:
        """Answer 200 while requests are taken, 503 while the server is stopping."""
        return Response(
            "{}", 503 if services.closing.is_set() else 200, media_type="application/json"
        )

    async def predict(request: Request, services: ServicesDep, tenant: PredictTenant) -> Response:
        """Answer rows by the default network."""
        served = await services.inference.load(
            tenant, await services.inference.default_network(tenant), None
        )
        body = await read_compressed_body(request, services.limits.inference_bytes)
        rows = await decode_in_thread_if_large(services.limits, body, _rows)
        told = await services.inference.answer(
            served, rows, lambda outputs: msgspec.json.encode({"predictions": outputs.tolist()})
        )
        services.metrics.rows(len(rows))
        return Response(told, media_type="application/json")

    paths = [path for path in (health_route, predict_route) if path is not None]
    if health_route is not None:
        router.add_api_route(health_route, health, summary="Does it answer?")
    if predict_route is not None:
        router.add_api_route(
            predict_route, predict, methods=["POST"], summary="Predict", openapi_extra=BODY
        )
    return InferenceProtocol(router, lambda path: path in paths, error)
