"""Liveness, readiness, metrics and version of the server."""

import sys

import numpy as np
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from service.api.dependencies import MetricsTenant, ServicesDep
from service.api.errors import responses
from service.domain.errors import UnavailableError
from service.version import VERSION

router = APIRouter(tags=["health"])


class LivenessBody(BaseModel):
    """The liveness of the process."""

    status: str = "alive"


class ReadinessBody(BaseModel):
    """The readiness of the server, with the result of each check."""

    status: str = "ready"
    checks: dict[str, str]


class ServerVersionBody(BaseModel):
    """The versions of the server, of Python and of NumPy."""

    name: str = "neurond"
    version: str = Field(description="Version of the server.")
    python: str = Field(description="Version of Python.")
    numpy: str = Field(description="Version of NumPy.")


@router.get("/healthz", summary="Liveness")
async def check_liveness() -> LivenessBody:
    """Return 200 while the process can handle requests."""
    return LivenessBody()


@router.get("/readyz", summary="Readiness", responses=responses(503))
async def check_readiness(services: ServicesDep) -> ReadinessBody:
    """Return 200 if database, blobs and workers are available and the server is not stopping."""
    if services.closing.is_set():
        raise UnavailableError("the server is stopping", code="shutting_down")
    try:
        await services.database.ping()
        await services.blobs.ping()
    except UnavailableError as error:
        raise UnavailableError(error.detail) from error  # 503 whatever the cause, never 507
    if not services.executor.available():
        raise UnavailableError("no worker is ready; the log says why none can be started")
    access = "keys"
    if services.authenticator.anonymous:
        access = (
            "anonymous, from this machine" if not services.authenticator.anywhere else "anonymous"
        )
    workers = f"{services.executor.free()} of {services.executor.slots} free"
    return ReadinessBody(
        checks={"database": "ok", "blobs": "ok", "workers": workers, "access": access}
    )


@router.get(
    "/metrics",
    summary="Metrics",
    response_class=PlainTextResponse,
    responses=responses(401, 403, 503),
)
async def get_metrics(services: ServicesDep, _: MetricsTenant) -> Response:
    """Return counters and gauges of requests, rows, jobs, workers and stored bytes, for Prometheus.

    Requires the scope `metrics` or `admin`.
    """
    counts = await services.jobs.counts()
    metrics, executor = services.metrics, services.executor
    streams, cache = services.rate_limiter.streams(), services.inference.cache_statistics()
    metrics.gauge("neurond_jobs", "Jobs by status.", counts, "status")
    metrics.gauge("neurond_workers_free", "Free workers.", {"": executor.free()})
    metrics.gauge("neurond_workers", "Workers that have reported ready.", {"": executor.alive()})
    metrics.gauge("neurond_event_streams", "Open event streams.", {"": streams})
    metrics.gauge("neurond_worker_memory_bytes", "Memory of all workers.", {"": executor.memory()})
    stored = services.stored_bytes
    metrics.gauge("neurond_stored_bytes", "Stored bytes by kind.", stored, "kind")
    metrics.gauge("neurond_networks_loaded", "Versions in memory.", {"": cache["loaded"]})
    metrics.counter("neurond_model_cache_hits", "Requests for loaded versions.", cache["hits"])
    metrics.counter("neurond_model_cache_misses", "Loads of versions.", cache["misses"])
    return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/version", summary="Version of the server")
async def get_server_version() -> ServerVersionBody:
    """Return the versions of the server, of Python and of NumPy."""
    return ServerVersionBody(version=VERSION, python=sys.version.split()[0], numpy=np.__version__)
