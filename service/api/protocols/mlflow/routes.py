"""What the scoring server has beside ``/invocations`` and ``/ping``."""

from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from service.api.dependencies import Parts
from service.api.dialect import FAILURES, Dialect, Invocations
from service.api.invocations import error
from service.api.protocols.mlflow import codec
from service.version import VERSION

router = APIRouter(tags=["mlflow"], responses=FAILURES)


@router.get("/health", summary="Does it answer?", response_class=PlainTextResponse)
async def health(parts: Parts) -> Response:
    """Answer 200 while requests are taken, 503 while the server is stopping."""
    return PlainTextResponse("\n", 503 if parts.closing.is_set() else 200)


@router.get("/version", summary="Which version is it?", response_class=PlainTextResponse)
async def version() -> Response:
    """Tell the server's version as plain text."""
    return PlainTextResponse(VERSION)


DIALECT: Final = Dialect(
    router=router,
    owns=lambda path: path in {"/health", "/version"},
    error=error,
    invocations=Invocations(codec.KINDS, codec.takes, codec.decode, codec.encode),
)
