"""The model repository: which networks there are, and which a client has unloaded."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from service.api.dependencies import NetworkRef, Parts, Reader, Services, Trainer
from service.api.raw import read_packed
from service.application.ports import Page
from service.domain.errors import InvalidRequest
from service.domain.networks import Network

router = APIRouter()


@router.post("/repository/index", summary="Which networks are there?")
async def repository_index(request: Request, parts: Parts, owner: Reader) -> Response:
    """List the latest version of every network, and whether it answers."""
    body = await read_packed(request, parts.limits.json_bytes)
    wanted = _object(body)
    if not isinstance(wanted.get("ready", False), bool):
        raise InvalidRequest("ready is true or false")
    told = []
    for network in await every_network(parts, owner):
        parked = parts.inference.parked(network.id)
        if parked and wanted.get("ready"):
            continue
        state = ("UNAVAILABLE", "unloaded") if parked else ("READY", "")
        told.append(
            {
                "name": network.name,
                "version": str(network.latest_version),
                "state": state[0],
                "reason": state[1],
            }
        )
    return Response(msgspec.json.encode(told), media_type="application/json")


@router.post("/repository/models/{model}/load", summary="Load a network", response_class=Response)
async def load(model: NetworkRef, request: Request, parts: Parts, owner: Trainer) -> Response:
    """Let a network answer here again, and read its weights now."""
    _object(await read_packed(request, parts.limits.json_bytes))
    served = await parts.inference.served(owner, model, None)
    parts.inference.park(served.network.id, parked=False)
    return Response(status_code=200)


@router.post(
    "/repository/models/{model}/unload", summary="Unload a network", response_class=Response
)
async def unload(model: NetworkRef, request: Request, parts: Parts, owner: Trainer) -> Response:
    """Let a network answer no more by this protocol, until it is loaded."""
    _object(await read_packed(request, parts.limits.json_bytes))
    network = await parts.networks.get(owner, model)
    parts.inference.park(network.id, parked=True)
    return Response(status_code=200)


async def every_network(parts: Services, owner: str) -> list[Network]:
    """Return every network, newest first."""
    found: list[Network] = []
    after = None
    while True:
        page = await parts.networks.page(owner, Page(500, after))
        found += page[:500]
        if len(page) <= 500:
            return found
        after = found[-1].id


def _object(body: bytes) -> dict[str, Any]:
    """Return a body that may be empty as a JSON object."""
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidRequest(f"the request cannot be read: {problem}") from problem
