"""Look-up of networks and versions by reference, and creation of versions."""

from collections.abc import Callable
from dataclasses import replace

from service.application.ports.database import UnitOfWork
from service.domain.errors import NotFoundError, PreconditionFailedError
from service.domain.networks import NetworkRecord, Version


async def append_version(
    work: UnitOfWork, network: NetworkRecord, version: Version, changed: Callable[[str], None]
) -> Version:
    """Save a version under the next number.

    Its parent is the latest version unless ``version.parent`` is set.
    """
    number = network.last_number + 1
    parent = network.latest_version if version.parent is None else version.parent
    version = replace(version, number=number, parent=parent)
    updated = replace(
        network, latest_version=number, last_number=number, revision=network.revision + 1
    )
    if not await work.networks.update(updated, network.revision):
        raise PreconditionFailedError(str(network.revision))
    await work.versions.add(version)
    work.after_commit(lambda: changed(network.id))
    return version


async def find_network(work: UnitOfWork, tenant: str, reference: str) -> NetworkRecord:
    """Return a network by id or name; raise NotFoundError if it does not exist."""
    network = await work.networks.find(tenant, reference)
    if network is None:
        raise NotFoundError("network", reference)
    return network


async def find_version(
    work: UnitOfWork, tenant: str, reference: str, ref: str | None
) -> tuple[NetworkRecord, Version]:
    """Return a network and its version by number, alias, "latest" or "live".

    "live" resolves to the latest saved version. None selects the alias "stable" if it exists,
    otherwise the latest version.
    """
    network = await find_network(work, tenant, reference)
    number = version_number(network, ref)
    version = None if number is None else await work.versions.get(network.id, number)
    if version is None:
        raise NotFoundError("version", str(ref))
    return network, version


def version_number(network: NetworkRecord, ref: str | None) -> int | None:
    """Return the version number for a reference, or None if the alias does not exist."""
    if ref is None:
        return network.aliases.get("stable", network.latest_version)
    if ref in {"latest", "live"}:
        return network.latest_version
    if ref.isascii() and ref.isdigit() and len(ref) < 10:
        return int(ref)
    return network.aliases.get(ref)
