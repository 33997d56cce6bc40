"""Checkpoints of jobs: taken on request, and made versions."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import final

from core.errors import FormatError
from core.network import Network as Engine
from core.state import read_state
from service.application.dispatcher import Dispatcher
from service.application.feed import Feed
from service.application.jobs import find_job, read_job
from service.application.ports import BlobCorrupt, Blobs, Store, Work
from service.application.versions import append_version, find_network
from service.domain.errors import Conflict, IllegalMove, NotFound, Unavailable
from service.domain.jobs import HELD, Checkpoint, Status, allowed_actions
from service.domain.networks import Network, Version


@final
class Checkpoints:
    """The use cases.

    Parameters
    ----------
    changed
        Called with a network's id when it got a version.
    closing
        Set when the server was told to stop.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        feed: Feed,
        dispatcher: Dispatcher,
        changed: Callable[[str], None],
        closing: asyncio.Event,
    ) -> None:
        self._store, self._blobs, self._feed = store, blobs, feed
        self._dispatcher, self._changed, self._closing = dispatcher, changed, closing

    async def of(self, owner: str, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, latest first."""
        async with self._store.read() as work:
            job = await find_job(work, owner, job_id)
            return await work.checkpoints.of(job.id)

    async def take(self, owner: str, reference: str) -> str:
        """Have a checkpoint taken now; return the job's id when it is stored: `keep` keeps it."""
        job = await read_job(self._store, owner, reference)
        job_id = job.id
        before = {checkpoint.id for checkpoint in await self.of(owner, job_id)}
        news = self._feed.next(job_id)
        if job.status is Status.RUNNING:
            if not self._dispatcher.checkpoint(job_id):
                await self._store.tell("checkpoint", job_id)  # a worker of another server has it
            while job.status in HELD and not self._closing.is_set():
                await asyncio.wait([news])
                news = self._feed.next(job_id)
                if any(found.id not in before for found in await self.of(owner, job_id)):
                    return job_id
                job = await read_job(self._store, owner, job_id)
            if self._closing.is_set():
                raise Unavailable("the server is stopping", code="shutting_down")
        raise IllegalMove("be checkpointed", job.status, allowed_actions(job.status))

    async def keep(self, work: Work, owner: str, job_id: str) -> Checkpoint:
        """Keep the newest checkpoint for its client, beside those that come later."""
        job = await find_job(work, owner, job_id)
        found = await work.checkpoints.of(job.id)
        if not found:
            raise NotFound("checkpoint", "newest")
        await work.checkpoints.keep(found[0].id)
        return found[0]

    async def best(self, owner: str, job_id: str, checkpoint_id: str) -> Version:
        """Return a checkpoint's best weights as a version; `promote` remembers it."""
        async with self._store.read() as work:
            job = await find_job(work, owner, job_id)
            checkpoint = await work.checkpoints.get(job.id, checkpoint_id)
            if checkpoint is None:
                raise NotFound("checkpoint", checkpoint_id)
            network = await find_network(work, owner, job.network_id)
            dataset = await work.datasets.find(owner, job.dataset_id)
        try:
            state = await self._blobs.get(checkpoint.blob)
            weights = await asyncio.to_thread(_best_of, state, network)
        except (BlobCorrupt, FormatError) as error:
            raise Conflict(str(error), code="checkpoint_corrupt") from error
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

    async def promote(self, work: Work, owner: str, version: Version) -> tuple[Network, Version]:
        """Add what `best` returned to its network."""
        network = await find_network(work, owner, version.network_id)
        return network, await append_version(work, network, version, self._changed)


def _best_of(state: bytes, network: Network) -> bytes:
    """Return the best weights that a trainer's state holds."""
    arrays, _ = read_state(state)
    engine = Engine.from_spec(network.spec())
    engine.parameters[:] = arrays["best_parameters"]
    return engine.to_bytes()
