"""The use cases of networks, their versions and aliases."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import randbits
from typing import Any, final

import numpy as np

from core.errors import EngineError
from core.formats import Model
from core.network import Network
from service.application.engine_errors import translate_engine_error
from service.application.networks.versions import append_version, find_network, find_version
from service.application.ports.blobs import BlobStore
from service.application.ports.database import Database, UnitOfWork
from service.application.ports.repositories import Page
from service.application.retention.quotas import QuotaCheck
from service.application.training.live_snapshots import LiveSnapshots
from service.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
    pointer,
)
from service.domain.identifiers import check_alias, check_name, new_id
from service.domain.limits import Limits
from service.domain.networks import Metadata, NetworkRecord, Origin, Version


@dataclass(frozen=True, slots=True)
class NewNetwork:
    """The request for a new network."""

    input_shape: list[int]
    layers: list[dict[str, Any]]
    name: str | None = None
    labels: list[str] | None = None
    dtype: str = "float32"
    seed: int | None = None
    metadata: Metadata | None = None
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of a PATCH request.

    Attributes
    ----------
    named
        Names of the fields to change. None removes labels or metadata, and resets the name to the
        id.
    """

    name: str | None = None
    labels: list[str] | None = None
    metadata: Metadata | None = None
    named: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class UnsavedNetwork:
    """A network and its first version, before they are saved."""

    network: NetworkRecord
    version: Version
    notes: tuple[str, ...] = ()


@final
class NetworkService:
    """Creates, lists, changes and deletes networks and their versions."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        limits: Limits,
        live_snapshots: LiveSnapshots,
        changed: Callable[[str], None],
        quotas: QuotaCheck,
    ) -> None:
        self._database, self._blobs, self._limits = database, blobs, limits
        self._live_snapshots, self._changed, self._quotas = live_snapshots, changed, quotas

    async def build(self, tenant: str, request: NewNetwork) -> UnsavedNetwork:
        """Validate a new network and initialize its weights; `add` saves it."""
        self._limits.check_network(request.input_shape, request.layers)
        config = {
            "input_shape": request.input_shape,
            "layers": request.layers,
            "dtype": request.dtype,
        }
        seed = randbits(32) if request.seed is None else request.seed
        try:
            engine = Network.from_config(config)
        except EngineError as error:
            raise translate_engine_error(error) from None
        await asyncio.to_thread(engine.initialize, np.random.Generator(np.random.SFC64(seed)))
        return await self._build(tenant, Model(engine), request, seed, "initial")

    async def import_model(
        self, tenant: str, model: Model, name: str | None, metadata: Metadata | None = None
    ) -> UnsavedNetwork:
        """Validate a model as a new network; `add` saves it."""
        config = model.network.config()
        self._limits.check_network(config["input_shape"], config["layers"])
        labels = None if model.labels is None else list(model.labels)
        shape, layers = config["input_shape"], config["layers"]
        request = NewNetwork(shape, layers, name, labels, config["dtype"], metadata=metadata)
        try:
            unsaved = await self._build(tenant, model, request, 0, "import")
        except InvalidRequestError as error:
            invalid_name = error.field_errors[0].pointer == "/name"
            raise error if invalid_name else error.under("network") from None
        return replace(unsaved, notes=model.notes)

    async def _build(
        self, tenant: str, model: Model, request: NewNetwork, seed: int, origin: Origin
    ) -> UnsavedNetwork:
        now = datetime.now(UTC)
        network_id = new_id("net")
        engine = model.network
        if engine.units == 1 and engine.output_activation == "softmax":
            location = pointer("layers", len(request.layers) - 1, "units")
            problem = "softmax over one unit is always 1; use one sigmoid unit for two classes"
            raise InvalidRequestError.at(location, "out_of_range", problem)
        network = NetworkRecord(
            id=network_id,
            tenant=tenant,
            name=network_id if request.name is None else check_name(request.name),
            input_shape=request.input_shape,
            layers=engine.config()["layers"],
            dtype=request.dtype,
            seed=seed,
            parameter_count=engine.parameter_count(),
            created_at=now,
            metadata=request.metadata or {},
            demo=request.demo,
        )
        if request.labels is not None:
            network = replace(network, labels=check_labels(request.labels, network))
        sha256 = await self._blobs.put(engine.to_bytes())
        preprocessing = model.preprocessing.config()
        version = Version(network_id, 0, origin, sha256, now, preprocessing=preprocessing)
        return UnsavedNetwork(network, version)

    async def add(self, work: UnitOfWork, unsaved: UnsavedNetwork) -> NetworkRecord:
        """Save a new network and its first version."""
        network = unsaved.network
        await self._quotas.check(work, network.tenant, networks=1, size=network.weights_bytes)
        await work.networks.add(network)
        await work.versions.add(unsaved.version)
        work.after_commit(lambda: self._changed(network.id))
        return network

    async def get(self, tenant: str, reference: str) -> NetworkRecord:
        """Return a network by id or name."""
        async with self._database.read() as work:
            return await find_network(work, tenant, reference)

    async def page(
        self, tenant: str, pagination: Page, *, without_demo: bool = False
    ) -> list[NetworkRecord]:
        """Return networks, newest first; one more than the limit if there are more."""
        async with self._database.read() as work:
            return await work.networks.page(tenant, pagination, without_demo=without_demo)

    async def change(
        self,
        tenant: str,
        reference: str,
        changes: Changes,
        if_match: Callable[[NetworkRecord], None],
    ) -> NetworkRecord:
        """Change the name, labels or metadata of a network."""
        async with self._database.write() as work:
            network = await find_network(work, tenant, reference)
            if_match(network)
            if not changes.named:
                return network
            changed = replace(network, revision=network.revision + 1)
            if "name" in changes.named:
                name = network.id if changes.name is None else check_name(changes.name)
                changed = replace(changed, name=name)
                await work.jobs.rename_network(network.id, name)
            if "labels" in changes.named:
                labels = changes.labels
                checked = None if labels is None else check_labels(labels, network)
                changed = replace(changed, labels=checked)
            if "metadata" in changes.named:
                changed = replace(changed, metadata=changes.metadata or {})
            return await self._store_change(work, network, changed)

    async def remove(
        self, tenant: str, reference: str, if_match: Callable[[NetworkRecord], None]
    ) -> None:
        """Delete a network and its versions; raise ConflictError if an active job uses it."""
        async with self._database.write() as work:
            network = await find_network(work, tenant, reference)
            if_match(network)
            job = await work.jobs.active_on(network_id=network.id)
            if job is not None:
                problem = f"job {job.id} with status {job.status} uses the network; cancel it first"
                raise ConflictError(problem, code="network_in_use", job=job.id)
            await work.networks.remove(network.id)
            work.after_commit(lambda: self._changed(network.id))

    async def set_alias(
        self,
        tenant: str,
        reference: str,
        alias: str,
        number: int | None,
        if_match: Callable[[NetworkRecord], None],
    ) -> NetworkRecord:
        """Point an alias at a version; None removes the alias."""
        check_alias(alias)
        async with self._database.write() as work:
            network = await find_network(work, tenant, reference)
            if_match(network)
            aliases = dict(network.aliases)
            if number is None:
                if aliases.pop(alias, None) is None:
                    raise NotFoundError("alias", alias)
            else:
                if await work.versions.get(network.id, number) is None:
                    problem = f"version {number} not found; the latest is {network.latest_version}"
                    raise InvalidRequestError.at("/version", "unknown_version", problem)
                aliases[alias] = number
            changed = replace(network, aliases=aliases, revision=network.revision + 1)
            return await self._store_change(work, network, changed)

    async def version(
        self, tenant: str, reference: str, ref: str | None
    ) -> tuple[NetworkRecord, Version]:
        """Return a network and one of its versions; see `find_version` for ``ref``."""
        async with self._database.read() as work:
            network, version = await find_version(work, tenant, reference, ref)
        live = await self._live_snapshots.load(network) if ref == "live" else None
        if live is None:
            return network, version
        async with self._database.read() as work:
            job = await work.jobs.find(tenant, live.job_id)
            dataset = None if job is None else await work.datasets.find(tenant, job.dataset_id)
        return network, replace(
            version,
            origin="job",
            created_at=version.created_at if job is None else job.created_at,
            training=None if job is None else job.training,
            dataset_sha256=None if dataset is None else dataset.sha256,
            weights_sha256=hashlib.sha256(live.snapshot.weights).hexdigest(),
            parent=live.base_version,
            job_id=live.job_id,
            metrics={"epochs": live.snapshot.epoch},
            preprocessing=live.snapshot.preprocessing,
        )

    async def versions(
        self, tenant: str, reference: str, pagination: Page
    ) -> tuple[NetworkRecord, list[Version]]:
        """Return versions, newest first; one more than the limit if there are more."""
        async with self._database.read() as work:
            network = await find_network(work, tenant, reference)
            return network, await work.versions.page(network.id, pagination)

    async def remove_version(
        self,
        tenant: str,
        reference: str,
        number: int,
        if_match: Callable[[NetworkRecord], None],
    ) -> None:
        """Delete a version; its number is not used again.

        Raises
        ------
        NotFoundError
            If there is no such version.
        ConflictError
            If an alias or an active job needs the version, or it is the only one.
        """
        async with self._database.write() as work:
            network = await find_network(work, tenant, reference)
            if_match(network)
            if await work.versions.get(network.id, number) is None:
                raise NotFoundError("version", str(number))
            aliases = [name for name, target in network.aliases.items() if target == number]
            if aliases:
                problem = f"the alias {aliases[0]!r} points to version {number}; move it first"
                raise ConflictError(problem, code="version_in_use", alias=aliases[0])
            job = await work.jobs.active_from(network.id, number)
            if job is not None:
                problem = f"job {job.id} with status {job.status} starts from version {number}"
                raise ConflictError(problem, code="version_in_use", job=job.id)
            await work.versions.remove(network.id, number)
            left = await work.versions.page(network.id, Page(1, None))
            if not left:
                problem = f"version {number} is the only version of the network"
                raise ConflictError(problem, code="version_in_use")
            changed = replace(network, latest_version=left[0].number, revision=network.revision + 1)
            await self._store_change(work, network, changed)

    async def upload(
        self,
        tenant: str,
        reference: str,
        version: Version,
        if_match: Callable[[NetworkRecord], None],
    ) -> tuple[NetworkRecord, Version]:
        """Add a version whose weights are stored; return the updated network and the version."""
        async with self._database.write() as work:
            network = await find_network(work, tenant, reference)
            if_match(network)
            await self._quotas.check(work, tenant, size=network.weights_bytes)
            added = await append_version(work, network, version, self._changed)
            return await find_network(work, tenant, network.id), added

    async def _store_change(
        self, work: UnitOfWork, network: NetworkRecord, changed: NetworkRecord
    ) -> NetworkRecord:
        if not await work.networks.update(changed, network.revision):
            raise PreconditionFailedError(str(network.revision))
        work.after_commit(lambda: self._changed(network.id))
        return changed


def check_labels(labels: list[str], network: NetworkRecord) -> list[str]:
    """Return ``labels``; raise InvalidRequestError if they do not fit the network's outputs."""
    problem = None
    if not network.classes:
        problem = "labels require a last layer with softmax or sigmoid"
    elif len(labels) != network.classes:
        problem = f"expected {network.classes} labels, one for each class, got {len(labels)}"
    elif len(set(labels)) != len(labels):
        problem = "labels must be unique"
    if problem is not None:
        raise InvalidRequestError.at("/labels", "invalid_labels", problem)
    for index, label in enumerate(labels):
        check_name(label, pointer("labels", index))
    return labels
