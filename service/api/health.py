"""Is it alive, may it be sent traffic, and which version is it."""

import sys

import numpy as np
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from service.api.dependencies import ReadTenant, ServicesDep
from service.api.errors import responses
from service.domain.errors import UnavailableError
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
async def readyz(services: ServicesDep) -> ReadyBody:
    """Answer 200 when store and blobs work and the server is not stopping."""
    if services.closing.is_set():
        raise UnavailableError("the server is stopping", code="shutting_down")
    try:
        await services.database.ping()
        await services.blobs.ping()
    except UnavailableError as error:
        raise UnavailableError(error.detail) from error  # whatever the reason, it is a 503
    if not services.executor.alive():
        raise UnavailableError("no worker can be started")
    access = "keys"
    if services.authenticator.anonymous:
        access = (
            "anonymous, from this machine" if not services.authenticator.anywhere else "anonymous"
        )
    workers = f"{services.executor.free()} of {services.executor.slots} free"
    return ReadyBody(checks={"database": "ok", "blobs": "ok", "workers": workers, "access": access})


@router.get(
    "/metrics",
    summary="What happened so far",
    response_class=PlainTextResponse,
    responses=responses(401, 403, 503),
)
async def metrics(services: ServicesDep, _: ReadTenant) -> Response:
    """Tell Prometheus about requests, rows, jobs and workers."""
    counts = await services.jobs.counts()
    told = services.metrics
    told.gauge("neurond_jobs", "Jobs by state.", counts, "status")
    told.gauge("neurond_workers_free", "Workers that wait.", {"": services.executor.free()})
    told.gauge("neurond_workers", "Workers there are.", {"": services.executor.alive()})
    told.gauge("neurond_event_streams", "Event streams.", {"": services.rate_limiter.streams()})
    told.gauge(
        "neurond_worker_memory_bytes", "Held by all workers.", {"": services.executor.memory()}
    )
    loaded = services.inference.cache_statistics()
    told.gauge("neurond_networks_loaded", "Networks in memory.", {"": loaded["loaded"]})
    told.counter("neurond_model_cache_hits", "Requests that found it loaded.", loaded["hits"])
    told.counter("neurond_model_cache_misses", "Versions that were loaded.", loaded["misses"])
    return Response(told.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/version", summary="Which version is it?")
async def version() -> VersionBody:
    """Tell the versions of the server and of what it stands on."""
    return VersionBody(version=VERSION, python=sys.version.split()[0], numpy=np.__version__)
