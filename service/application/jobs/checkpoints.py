"""Checkpoints of jobs: list them, take one on request, and promote one to a version."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import final

from core.errors import FormatError
from core.network import Network
from core.trainer_state import read_state
from service.application.jobs.dispatcher import Dispatcher
from service.application.jobs.event_bus import EventBus
from service.application.jobs.lookup import find_job, read_job
from service.application.networks.versions import append_version, find_network
from service.application.ports.blobs import BlobCorruptError, BlobStore
from service.application.ports.database import Database, UnitOfWork
from service.domain.errors import (
    ConflictError,
    InvalidTransitionError,
    NotFoundError,
    UnavailableError,
)
from service.domain.jobs import LEASED, Checkpoint, Status, allowed_actions
from service.domain.networks import NetworkRecord, Version


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
    ) -> None:
        self._database, self._blobs, self._event_bus = database, blobs, event_bus
        self._dispatcher, self._changed, self._closing = dispatcher, changed, closing

    async def of(self, tenant: str, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, latest first."""
        async with self._database.read() as work:
            job = await find_job(work, tenant, job_id)
            return await work.checkpoints.of(job.id)

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
        await work.checkpoints.keep(checkpoints[0].id)
        return checkpoints[0]

    async def best(self, tenant: str, job_id: str, checkpoint_id: str) -> Version:
        """Return a checkpoint's best weights as a version, which `promote` stores."""
        async with self._database.read() as work:
            job = await find_job(work, tenant, job_id)
            checkpoint = await work.checkpoints.get(job.id, checkpoint_id)
            if checkpoint is None:
                raise NotFoundError("checkpoint", checkpoint_id)
            network = await find_network(work, tenant, job.network_id)
            dataset = await work.datasets.find(tenant, job.dataset_id)
        try:
            state = await self._blobs.get(checkpoint.blob)
            weights = await asyncio.to_thread(_best_weights, state, network)
        except (BlobCorruptError, FormatError) as error:
            raise ConflictError(str(error), code="checkpoint_corrupt") from error
        losses = {
            "train_loss": checkpoint.train_loss,
            "validation_loss": checkpoint.validation_loss,
        }
        return Version(
            network.id,
            0,
            "job",
            await self._blobs.put(weights),
            datetime.now(UTC),
            parent=job.base_version,
            job_id=job.id,
            training=job.training,
            metrics={
                "epochs": checkpoint.epoch,
                "best_epoch": checkpoint.best_epoch,
                **{name: loss for name, loss in losses.items() if loss is not None},
            },
            dataset_sha256=None if dataset is None else dataset.sha256,
            preprocessing=checkpoint.preprocessing,
        )

    async def promote(
        self, work: UnitOfWork, tenant: str, version: Version
    ) -> tuple[NetworkRecord, Version]:
        """Append the version that `best` returned to its network."""
        network = await find_network(work, tenant, version.network_id)
        return network, await append_version(work, network, version, self._changed)


def _best_weights(state: bytes, network: NetworkRecord) -> bytes:
    """Return the best weights in a trainer's state, encoded."""
    arrays, _ = read_state(state)
    neural_network = Network.from_config(network.config())
    neural_network.parameters[:] = arrays["best_parameters"]
    return neural_network.to_bytes()
