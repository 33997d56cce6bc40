"""Statistics of inference requests, in Triton's form."""

from typing import Any

from fastapi import APIRouter

from service.api.dependencies import NetworkRef, ReadTenant, Services, ServicesDep
from service.api.protocols.open_inference.repository import every_network
from service.api.protocols.open_inference.schemas import Version
from service.application.inference.loaded_model import InferenceStatistics
from service.domain.networks import NetworkRecord

router = APIRouter()


@router.get("/models/stats", summary="Statistics of all models")
async def list_statistics(services: ServicesDep, tenant: ReadTenant) -> dict[str, Any]:
    """Return counts and durations of every network since the server started."""
    statistics: list[dict[str, Any]] = []
    for network in await every_network(services, tenant):
        statistics += _statistics(services, network, None)
    return {"model_stats": statistics}


@router.get("/models/{model}/stats", summary="Statistics of a model")
async def get_model_statistics(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return counts and durations of each version since the server started."""
    network = await services.networks.get(tenant, model)
    return {"model_stats": _statistics(services, network, None)}


@router.get("/models/{model}/versions/{version}/stats", summary="Statistics of a version")
async def get_version_statistics(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return counts and durations of a version since the server started."""
    network, record = await services.networks.version(tenant, model, version)
    return {"model_stats": _statistics(services, network, record.number)}


def _statistics(
    services: Services, network: NetworkRecord, only: int | None
) -> list[dict[str, Any]]:
    """Return Triton's counts for the versions of a network that were used."""
    counted = services.inference.statistics(network.id)
    if only is not None:
        counted = {only: counted.get(only, InferenceStatistics())}
    elif not counted:
        counted = {network.latest_version: InferenceStatistics()}
    return [_entry(network.name, number, counts) for number, counts in sorted(counted.items())]


def _entry(name: str, number: int, counts: InferenceStatistics) -> dict[str, Any]:
    none = {"count": 0, "ns": 0}
    infer = {"count": counts.executions, "ns": counts.nanoseconds}
    success = {"count": counts.requests, "ns": counts.nanoseconds}
    return {
        "name": name,
        "version": str(number),
        "last_inference": int(counts.last_at * 1000),
        "inference_count": counts.rows,
        "execution_count": counts.executions,
        "inference_stats": {
            "success": success,
            "fail": {"count": counts.failures, "ns": 0},
            "queue": none,  # a request waits at most one event-loop iteration
            "compute_input": {"count": counts.executions, "ns": counts.decoding},
            "compute_infer": infer,
            "compute_output": {"count": counts.executions, "ns": counts.encoding},
            "cache_hit": none,
            "cache_miss": none,
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": {"count": count, "ns": decoding},
                "compute_infer": {"count": count, "ns": nanoseconds},
                "compute_output": {"count": count, "ns": encoding},
            }
            for rows, (count, nanoseconds, decoding, encoding) in sorted(counts.by_batch.items())
        ],
        "memory_usage": [],
    }
