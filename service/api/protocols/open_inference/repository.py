"""The model repository: the networks, and which of them a client has unloaded."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from service.api.body import read_small_body
from service.api.dependencies import NetworkRef, ReadTenant, Services, ServicesDep, TrainTenant
from service.application.ports.repositories import Page
from service.domain.errors import InvalidRequestError
from service.domain.networks import NetworkRecord

router = APIRouter()


@router.post("/repository/index", summary="Index of the repository")
async def list_repository(request: Request, services: ServicesDep, tenant: ReadTenant) -> Response:
    """List the latest version of every network, and whether it is loaded."""
    body = await read_small_body(request, services.limits.json_bytes)
    options = _object(body)
    if not isinstance(options.get("ready", False), bool):
        raise InvalidRequestError("ready must be true or false")
    models = []
    for network in await every_network(services, tenant):
        disabled = services.inference.is_disabled(network.id)
        if disabled and options.get("ready"):
            continue
        state = ("UNAVAILABLE", "unloaded") if disabled else ("READY", "")
        models.append(
            {
                "name": network.name,
                "version": str(network.latest_version),
                "state": state[0],
                "reason": state[1],
            }
        )
    return Response(msgspec.json.encode(models), media_type="application/json")


@router.post("/repository/models/{model}/load", summary="Load a network", response_class=Response)
async def load_repository_model(
    model: NetworkRef, request: Request, services: ServicesDep, tenant: TrainTenant
) -> Response:
    """Enable a network for this protocol again, and load its weights now."""
    _object(await read_small_body(request, services.limits.json_bytes))
    loaded = await services.inference.load(tenant, model, None)
    services.inference.set_disabled(loaded.network.id, disabled=False)
    return Response(status_code=200)


@router.post(
    "/repository/models/{model}/unload", summary="Unload a network", response_class=Response
)
async def unload_repository_model(
    model: NetworkRef, request: Request, services: ServicesDep, tenant: TrainTenant
) -> Response:
    """Disable a network for this protocol until it is loaded or the server restarts."""
    _object(await read_small_body(request, services.limits.json_bytes))
    network = await services.networks.get(tenant, model)
    services.inference.set_disabled(network.id, disabled=True)
    return Response(status_code=200)


async def every_network(services: Services, tenant: str) -> list[NetworkRecord]:
    """Return every network, newest first."""
    networks: list[NetworkRecord] = []
    after = None
    while True:
        listed = await services.networks.page(tenant, Page(500, after))
        networks += listed[:500]
        if len(listed) <= 500:
            return networks
        after = networks[-1].id


def _object(body: bytes) -> dict[str, Any]:
    """Return a body that may be empty as a JSON object."""
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidRequestError(f"the request cannot be decoded: {problem}") from problem
