"""Checkpoints of jobs: list them, take one on request, and promote one to a version."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, final

from core.errors import FormatError
from core.network import Network
from core.trainer_state import read_state
from service.application.jobs.dispatcher import Dispatcher
from service.application.jobs.event_bus import EventBus
from service.application.jobs.history import epoch_columns
from service.application.jobs.lookup import find_job, read_job
from service.application.networks.versions import append_version, find_network
from service.application.ports.blobs import BlobCorruptError, BlobStore
from service.application.ports.database import Database, UnitOfWork
from service.application.retention.quotas import QuotaCheck
from service.domain.errors import (
    ConflictError,
    InvalidTransitionError,
    NotFoundError,
    UnavailableError,
)
from service.domain.jobs import LEASED, Checkpoint, Job, Status, allowed_actions
from service.domain.networks import NetworkRecord, Version

STATES_PER_CHECKPOINT: Final = 4
"""A training state has the parameters, the best ones and usually two moments for each."""

BEST: Final = "best"
"""Id of the checkpoint of the best epoch."""

VERSION_METRICS: Final = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")


@final
class CheckpointService:
    """Use cases for checkpoints.

    Parameters
    ----------
    changed
        Called with a network's id when the network gets a new version.
    closing
        Set when the server starts to shut down.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        event_bus: EventBus,
        dispatcher: Dispatcher,
        changed: Callable[[str], None],
        closing: asyncio.Event,
        quotas: QuotaCheck,
    ) -> None:
        self._quotas = quotas
        self._database, self._blobs, self._event_bus = database, blobs, event_bus
        self._dispatcher, self._changed, self._closing = dispatcher, changed, closing

    async def of(self, tenant: str, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, latest first."""
        async with self._database.read() as work:
            job = await find_job(work, tenant, job_id)
            return await work.checkpoints.of(job.id)

    async def entries(self, tenant: str, job_id: str) -> list[Checkpoint]:
        """Return the best epoch, whose id is `BEST`, and then the checkpoints, latest first."""
        async with self._database.read() as work:
            job = await find_job(work, tenant, job_id)
            checkpoints = await work.checkpoints.of(job.id)
            best = await _best_of(work, job, checkpoints)
        return checkpoints if best is None else [best, *checkpoints]

    async def take(self, tenant: str, reference: str) -> str:
        """Request a checkpoint and wait until it is stored; return the job's id.

        `record` retains the checkpoint.

        Raises
        ------
        InvalidTransitionError
            If the job is not running.
        UnavailableError
            If the server shuts down first.
        """
        job = await read_job(self._database, tenant, reference)
        job_id = job.id
        before = {checkpoint.id for checkpoint in await self.of(tenant, job_id)}
        wakeup = self._event_bus.next(job_id)
        if job.status is Status.RUNNING:
            if not self._dispatcher.checkpoint(job_id):
                # A worker of another server runs the job.
                await self._database.notify("checkpoint", job_id)
            while job.status in LEASED and not self._closing.is_set():
                await asyncio.wait([wakeup])
                wakeup = self._event_bus.next(job_id)
                checkpoints = await self.of(tenant, job_id)
                if any(checkpoint.id not in before for checkpoint in checkpoints):
                    return job_id
                job = await read_job(self._database, tenant, job_id)
            if self._closing.is_set():
                raise UnavailableError("the server is stopping", code="shutting_down")
        raise InvalidTransitionError("checkpoint", job.status, allowed_actions(job.status))

    async def record(self, work: UnitOfWork, tenant: str, job_id: str) -> Checkpoint:
        """Mark the newest checkpoint as requested, so that newer ones do not replace it."""
        job = await find_job(work, tenant, job_id)
        checkpoints = await work.checkpoints.of(job.id)
        if not checkpoints:
            raise NotFoundError("checkpoint", "newest")
        network = await find_network(work, tenant, job.network_id)
        size = STATES_PER_CHECKPOINT * network.weights_bytes
        await self._quotas.check(work, tenant, size=size)
        await work.checkpoints.keep(checkpoints[0].id)
        return replace(checkpoints[0], requested=True)

    async def version_of(self, tenant: str, job_id: str, checkpoint_id: str) -> Version:
        """Return a checkpoint as a version, which `promote` stores.

        The version has the weights and the metrics of that checkpoint. `BEST` is the checkpoint of
        the best epoch so far, which every training state also contains.

        Raises
        ------
        NotFoundError
            If the job has no such checkpoint.
        ConflictError
            If the checkpoint is corrupt.
        """
        async with self._database.read() as work:
            job = await find_job(work, tenant, job_id)
            checkpoint = await self._find(work, job, checkpoint_id)
            network = await find_network(work, tenant, job.network_id)
            dataset = await work.datasets.find(tenant, job.dataset_id)
            metrics = await _metrics_at(work, job, checkpoint.epoch)
        array = "best_parameters" if checkpoint_id == BEST else "parameters"
        try:
            state = await self._blobs.get(checkpoint.blob)
            weights = await asyncio.to_thread(_weights, state, network, array)
        except (BlobCorruptError, FormatError) as error:
            raise ConflictError(str(error), code="checkpoint_corrupt") from error
        return Version(
            network.id,
            0,
            "job",
            await self._blobs.put(weights),
            datetime.now(UTC),
            parent=job.base_version,
            job_id=job.id,
            training=job.training,
            metrics={"epochs": checkpoint.epoch, "best_epoch": checkpoint.best_epoch, **metrics},
            dataset_sha256=None if dataset is None else dataset.sha256,
            preprocessing=checkpoint.preprocessing,
        )

    async def _find(self, work: UnitOfWork, job: Job, checkpoint_id: str) -> Checkpoint:
        """Return a checkpoint of a job, or its best epoch."""
        if checkpoint_id == BEST:
            entry = await _best_of(work, job, await work.checkpoints.of(job.id))
        else:
            entry = await work.checkpoints.get(job.id, checkpoint_id)
        if entry is None:
            raise NotFoundError("checkpoint", checkpoint_id)
        return entry

    async def promote(
        self, work: UnitOfWork, tenant: str, version: Version
    ) -> tuple[NetworkRecord, Version]:
        """Append the version that `version_of` returned to its network."""
        network = await find_network(work, tenant, version.network_id)
        await self._quotas.check(work, tenant, size=network.weights_bytes)
        return network, await append_version(work, network, version, self._changed)


async def _best_of(
    work: UnitOfWork, job: Job, checkpoints: Sequence[Checkpoint]
) -> Checkpoint | None:
    """Return the best epoch as a checkpoint, with the state of the newest one; None without any."""
    if not checkpoints or checkpoints[0].best_epoch is None:
        return None
    newest, epoch = checkpoints[0], checkpoints[0].best_epoch
    metrics = await _metrics_at(work, job, epoch)
    return replace(
        newest,
        id=BEST,
        epoch=epoch,
        train_loss=metrics.get("train_loss"),
        validation_loss=metrics.get("validation_loss"),
        requested=False,
    )


async def _metrics_at(work: UnitOfWork, job: Job, epoch: int) -> dict[str, float]:
    """Return the losses and accuracies of an epoch from the log of a job."""
    async for columns in epoch_columns(work, job.id):
        epochs = columns["epoch"]
        if epochs and epochs[-1] >= epoch:
            at = epochs.index(epoch)
            values = {name: columns[name][at] for name in VERSION_METRICS}
            return {name: value for name, value in values.items() if value is not None}
    return {}


def _weights(state: bytes, network: NetworkRecord, array: str) -> bytes:
    """Return an array of parameters in a trainer's state as weights."""
    arrays, _ = read_state(state)
    neural_network = Network.from_config(network.config())
    neural_network.parameters[:] = arrays[array]
    return neural_network.to_bytes()
