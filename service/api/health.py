"""Is it alive, may it be sent traffic, and which version is it."""

import sys

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel

from service.api.dependencies import Parts
from service.api.errors import responses
from service.domain.errors import Unavailable
from service.version import VERSION

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"


class ReadyBody(BaseModel):
    """Every part that the service needs answers."""

    status: str = "ready"
    checks: dict[str, str]


class VersionBody(BaseModel):
    """What runs here."""

    name: str = "neurond"
    version: str
    python: str
    numpy: str


@router.get("/healthz", summary="Alive?")
async def healthz() -> Alive:
    """Answer as long as the process can."""
    return Alive()


@router.get("/readyz", summary="May it be sent traffic?", responses=responses(503))
async def readyz(parts: Parts) -> ReadyBody:
    """Answer 200 when store and blobs work and the server is not stopping."""
    if parts.closing.is_set():
        raise Unavailable("the server is stopping", code="shutting_down")
    try:
        await parts.store.ping()
        await parts.blobs.ping()
    except Unavailable as error:
        raise Unavailable(error.detail) from error  # whatever the reason, it is a 503
    if not parts.executor.alive():
        raise Unavailable("no worker can be started")
    workers = f"{parts.executor.free()} of {parts.executor.slots} free"
    return ReadyBody(checks={"store": "ok", "blobs": "ok", "workers": workers})


@router.get("/v1/version", summary="Which version is it?")
async def version() -> VersionBody:
    """Tell the versions of the server and of what it stands on."""
    return VersionBody(version=VERSION, python=sys.version.split()[0], numpy=np.__version__)
