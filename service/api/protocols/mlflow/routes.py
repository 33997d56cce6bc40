"""What the scoring server has beside ``/invocations`` and ``/ping``."""

from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from service.api.dependencies import ServicesDep
from service.api.protocols.base import FAILURES, InferenceProtocol, InvocationCodec
from service.api.protocols.invocations import error
from service.api.protocols.mlflow import codec
from service.version import VERSION

router = APIRouter(tags=["mlflow"], responses=FAILURES)


@router.get("/health", summary="Does it answer?", response_class=PlainTextResponse)
async def health(services: ServicesDep) -> Response:
    """Answer 200 while requests are taken, 503 while the server is stopping."""
    return PlainTextResponse("\n", 503 if services.closing.is_set() else 200)


@router.get("/version", summary="Which version is it?", response_class=PlainTextResponse)
async def version() -> Response:
    """Tell the server's version as plain text."""
    return PlainTextResponse(VERSION)


PROTOCOL: Final = InferenceProtocol(
    router=router,
    owns=lambda path: path in {"/health", "/version"},
    error=error,
    invocations=InvocationCodec(codec.KINDS, codec.takes, codec.decode, codec.encode),
)
