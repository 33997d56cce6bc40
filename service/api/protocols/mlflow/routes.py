"""The routes of MLflow's scoring server besides ``/invocations`` and ``/ping``."""

from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from service.api.dependencies import ServicesDep
from service.api.protocols.base import FAILURES, InferenceProtocol, InvocationCodec
from service.api.protocols.invocations import error
from service.api.protocols.mlflow import codec
from service.version import VERSION

router = APIRouter(tags=["mlflow"], responses=FAILURES)


@router.get("/health", summary="Liveness", response_class=PlainTextResponse)
async def check_mlflow_health(services: ServicesDep) -> Response:
    """Return 200 while requests are accepted, and 503 while the server is stopping."""
    return PlainTextResponse("\n", 503 if services.closing.is_set() else 200)


@router.get("/version", summary="Version of the server", response_class=PlainTextResponse)
async def get_mlflow_version() -> Response:
    """Return the version of the server as plain text."""
    return PlainTextResponse(VERSION)


PROTOCOL: Final = InferenceProtocol(
    router=router,
    owns=lambda path: path in {"/health", "/version"},
    error=error,
    invocations=InvocationCodec(codec.KINDS, codec.accepts, codec.decode, codec.encode),
)
