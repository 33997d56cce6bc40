"""Versions: found by what a reference says, and added under the next number."""

from collections.abc import Callable
from dataclasses import replace

from service.application.ports import Work
from service.domain.errors import NotFound, Stale
from service.domain.networks import Network, Version


async def append_version(
    work: Work, network: Network, version: Version, changed: Callable[[str], None]
) -> Version:
    """Remember a version under the next number, as the child of the latest unless it says."""
    number = network.latest_version + 1
    parent = network.latest_version if version.parent is None else version.parent
    version = replace(version, number=number, parent=parent)
    newer = replace(network, latest_version=number, revision=network.revision + 1)
    if not await work.networks.update(newer, network.revision):
        raise Stale(str(network.revision))
    await work.versions.add(version)
    work.after_commit(lambda: changed(network.id))
    return version


async def find_network(work: Work, owner: str, reference: str) -> Network:
    """Return a network by id or name, or say that it is not there."""
    network = await work.networks.find(owner, reference)
    if network is None:
        raise NotFound("network", reference)
    return network


async def find_version(
    work: Work, owner: str, reference: str, ref: str | None
) -> tuple[Network, Version]:
    """Return a version by number, alias or "latest"; None is the alias stable, or the latest."""
    network = await find_network(work, owner, reference)
    number = version_number(network, ref)
    version = None if number is None else await work.versions.get(network.id, number)
    if version is None:
        raise NotFound("version", str(ref))
    return network, version


def version_number(network: Network, ref: str | None) -> int | None:
    """Return the number that a reference stands for; None where there is no such alias."""
    if ref is None:
        return network.aliases.get("stable", network.latest_version)
    if ref in {"latest", "live"}:
        return network.latest_version
    if ref.isascii() and ref.isdigit() and len(ref) < 10:
        return int(ref)
    return network.aliases.get(ref)
