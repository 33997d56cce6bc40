"""Is it alive, may it be sent traffic, and which version is it."""

import sys

import numpy as np
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from service.api.dependencies import Parts, Reader
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
    access = "keys"
    if parts.access.anonymous:
        access = "anonymous, from this machine" if not parts.access.anywhere else "anonymous"
    workers = f"{parts.executor.free()} of {parts.executor.slots} free"
    return ReadyBody(checks={"store": "ok", "blobs": "ok", "workers": workers, "access": access})


@router.get(
    "/metrics",
    summary="What happened so far",
    response_class=PlainTextResponse,
    responses=responses(401, 403, 503),
)
async def metrics(parts: Parts, _: Reader) -> Response:
    """Tell Prometheus about requests, rows, jobs and workers."""
    counts = await parts.jobs.counts()
    told = parts.metrics
    told.gauge("neurond_jobs", "Jobs by state.", counts, "status")
    told.gauge("neurond_workers_free", "Workers that wait.", {"": parts.executor.free()})
    told.gauge("neurond_workers", "Workers there are.", {"": parts.executor.alive()})
    told.gauge("neurond_event_streams", "Event streams.", {"": parts.rates.streams()})
    told.gauge("neurond_worker_memory_bytes", "Held by all workers.", {"": parts.executor.memory()})
    loaded = parts.inference.loaded()
    told.gauge("neurond_networks_loaded", "Networks in memory.", {"": loaded["loaded"]})
    told.counter("neurond_model_cache_hits", "Requests that found it loaded.", loaded["hits"])
    told.counter("neurond_model_cache_misses", "Versions that were loaded.", loaded["misses"])
    return Response(told.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/version", summary="Which version is it?")
async def version() -> VersionBody:
    """Tell the versions of the server and of what it stands on."""
    return VersionBody(version=VERSION, python=sys.version.split()[0], numpy=np.__version__)
