"""Jobs: submit, look at, pause, resume, cancel."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import randbits
from statistics import fmean
from typing import Any, Final, Literal, NamedTuple, final

from service.application.datasets.datasets import find_dataset
from service.application.jobs.dispatcher import Dispatcher
from service.application.jobs.event_log import JobEventLog
from service.application.jobs.history import columns_of
from service.application.networks.versions import find_network
from service.application.ports import Database, Page, UnitOfWork
from service.application.training.config import check_compatibility, resolve_training_config
from service.application.training.estimate import Estimate, check_frames, estimate
from service.domain.datasets import Dataset
from service.domain.errors import (
    ConflictError,
    InvalidRequestError,
    InvalidTransitionError,
    NotFoundError,
    QueueFullError,
)
from service.domain.identifiers import new_id
from service.domain.jobs import (
    LEASED,
    REQUESTS,
    Action,
    Job,
    Progress,
    Status,
    StopReason,
    allowed_actions,
    requested,
)
from service.domain.limits import Limits
from service.domain.networks import NetworkRecord, Version

PACE_JOBS: Final = 20
"""So many of the latest jobs tell how long the next will take."""

CANCELLABLE: Final = tuple(
    status for status, to in REQUESTS[Action.CANCEL].items() if to is not status
)
CANCEL_BATCH_SIZE: Final = 50
"""Jobs that one transaction cancels; others write in between."""

OnDuplicate = Literal["reject", "return", "replace"]


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a client asks for; the dataset is stored already, or comes with the job."""

    network: str
    training: dict[str, Any]
    dataset: str | None = None
    inline: Dataset | None = None
    on_duplicate: OnDuplicate | None = None


class QueuePosition(NamedTuple):
    """Where a job is in the queue.

    Attributes
    ----------
    ahead
        Jobs before it.
    seconds
        About how long until it begins, if those before it take what the latest took; None as long
        as nothing is known.
    """

    ahead: int
    seconds: float | None


@final
class JobService:
    """The use cases."""

    def __init__(
        self,
        database: Database,
        event_log: JobEventLog,
        dispatcher: Dispatcher,
        limits: Limits,
        changed: Callable[[str], None],
        closing: asyncio.Event,
        open_to_all: Callable[[], bool],
    ) -> None:
        self._closing, self._open_to_all = closing, open_to_all
        self._database, self._event_log, self._event_bus = database, event_log, event_log.event_bus
        self._dispatcher, self._limits, self._changed = dispatcher, limits, changed

    async def submit(self, work: UnitOfWork, tenant: str, wanted: NewJob) -> tuple[Job, bool]:
        """Queue a job; return it, and whether it is new."""
        network, dataset, base, training = await self._resolved(work, tenant, wanted)
        asked = {**training, "seed": wanted.training.get("seed")}
        fingerprint = _digest([network.id, base.number, dataset.sha256, asked])
        if wanted.on_duplicate is not None:
            for twin in await work.jobs.equal_work(tenant, fingerprint):
                if wanted.on_duplicate == "return":
                    return twin, False
                if wanted.on_duplicate == "reject":
                    problem = f"job {twin.id} is {twin.status} with equal work"
                    raise ConflictError(problem, code="duplicate_job", job=twin.id)
                await self._transition(work, twin, Action.CANCEL)
        await self._check_queue(work, tenant)
        if wanted.inline is not None:
            await work.datasets.add(dataset)
        if network.labels is None and dataset.labels and network.classes == len(dataset.labels):
            labelled = replace(network, labels=dataset.labels, revision=network.revision + 1)
            await work.networks.update(labelled, network.revision)
            work.after_commit(lambda: self._changed(network.id))
        job = Job(
            id=new_id("job"),
            tenant=tenant,
            network_id=network.id,
            network_name=network.name,
            dataset_id=dataset.id,
            dataset_name=dataset.name,
            status=Status.QUEUED,
            base_version=base.number,
            training=training,
            created_at=datetime.now(UTC),
            fingerprint=fingerprint,
            progress=Progress(epochs=training["epochs"]),
        )
        work.after_commit(self._dispatcher.wake)
        return await self._event_log.create(work, job), True

    async def estimate(self, tenant: str, wanted: NewJob) -> Estimate:
        """Check everything about a job, and tell what it would take."""
        async with self._database.read() as work:
            network, dataset, _, training = await self._resolved(work, tenant, wanted)
        return estimate(network, dataset, training)

    async def _resolved(
        self, work: UnitOfWork, tenant: str, wanted: NewJob
    ) -> tuple[NetworkRecord, Dataset, Version, dict[str, Any]]:
        """Return what the job is about, with every training value in force."""
        network = await find_network(work, tenant, wanted.network)
        dataset = wanted.inline
        if dataset is None:
            dataset = await find_dataset(work, tenant, wanted.dataset or "")
        base = await work.versions.get(network.id, network.latest_version)
        if base is None:
            raise NotFoundError("version", str(network.latest_version))
        untrained = base.origin == "initial"
        training = resolve_training_config(
            wanted.training,
            network,
            dataset,
            standardized=None if untrained else base.preprocessing is not None,
            drawn_seed=randbits(32),
        )
        if training["epochs"] > self._limits.epochs:
            problem = f"there may be at most {self._limits.epochs} epochs"
            raise InvalidRequestError.at("/training/epochs", "out_of_range", problem)
        check_frames(network, training, self._limits)
        check_compatibility(network, dataset, training)
        return network, dataset, base, training

    async def _check_queue(self, work: UnitOfWork, tenant: str) -> None:
        limits = self._limits
        bounds = [(limits.queued_jobs, None), (limits.queued_jobs_per_tenant, tenant)]
        if self._open_to_all():  # without keys there is one owner, and no neighbour to protect
            bounds.pop()
        for limit, whose in bounds:
            if await work.jobs.count([Status.QUEUED], tenant=whose) >= limit:
                raise QueueFullError(limit, retry_after=5)

    async def get(self, tenant: str, job_id: str) -> Job:
        """Return a job."""
        return await read_job(self._database, tenant, job_id)

    async def counts(self) -> dict[str, float]:
        """Return how many jobs are in each state, over all tenants."""
        async with self._database.read() as work:
            found = await work.jobs.counts()
        return {str(status): float(found.get(status, 0)) for status in Status}

    async def queue_positions(
        self, jobs: Sequence[Job], work: UnitOfWork | None = None
    ) -> dict[str, QueuePosition]:
        """Return the places of those jobs that are queued."""
        queued = [job.id for job in jobs if job.status is Status.QUEUED]
        if not queued:
            return {}
        if work is None:
            async with self._database.read() as found:
                return await self.queue_positions(jobs, found)
        positions = await work.jobs.queue_positions(queued)
        taken = await work.jobs.recent_seconds(PACE_JOBS)
        running = [job.progress.eta_seconds for job in await work.jobs.leased_by(None)]
        left = [seconds for seconds in running if seconds is not None]
        slots = self._dispatcher.slots

        def wait(ahead: int) -> float | None:
            """Go by what runs now, and for those before it by what the latest took."""
            bounded = self._limits.running_jobs_per_tenant is not None  # then others may go first
            if bounded or len(left) < len(running) or (ahead and not taken):
                return None
            between = fmean(taken) * ahead if ahead else 0.0
            begins = min(left) if len(left) >= slots else 0.0
            return round(begins + between / slots, 1)

        return {job_id: QueuePosition(ahead, wait(ahead)) for job_id, ahead in positions.items()}

    async def page(
        self, tenant: str, page: Page, status: str | None, network: str | None
    ) -> list[Job]:
        """Return a page of jobs and one more."""
        async with self._database.read() as work:
            network_id = None
            if network is not None:
                network_id = (await find_network(work, tenant, network)).id
            return await work.jobs.page(tenant, page, status, network_id)

    async def wait(self, tenant: str, job_id: str, seconds: float) -> Job:
        """Return a job at its next change of state, when it has ended, or after ``seconds``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        job_id = (await self.get(tenant, job_id)).id
        news = self._event_bus.next(job_id)
        job = first = await self.get(tenant, job_id)
        while job.status == first.status and not job.terminal and not self._closing.is_set():
            left = deadline - loop.time()
            if left <= 0:
                break
            await asyncio.wait([news], timeout=left)
            news = self._event_bus.next(job_id)
            job = await self.get(tenant, job_id)
        return job

    async def finished(self, tenant: str, job_id: str, seconds: float) -> Job:
        """Return a job when it has ended, or after ``seconds``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        job = await self.get(tenant, job_id)
        while not job.terminal and not self._closing.is_set():
            left = deadline - loop.time()
            if left <= 0:
                break
            job = await self.wait(tenant, job_id, left)
        return job

    async def request(self, tenant: str, job_id: str, action: Action) -> Job:
        """Pause, resume or cancel; repeating what already holds changes nothing.

        Raises
        ------
        IllegalMove
            When the job's state does not allow it.
        """
        while True:
            async with self._database.write() as work:
                job = await find_job(work, tenant, job_id)
                moved = await self._transition(work, job, action)
            if moved is not None:
                return moved

    async def cancel_all(self, tenant: str, status: Status | None, network: str | None) -> int:
        """Cancel all jobs, the newest first, some in each transaction; return how many."""
        network_id, count = None, 0
        if network is not None:
            async with self._database.read() as work:
                network_id = (await find_network(work, tenant, network)).id
        # Twice: a job may go back meanwhile, as from running to queued when its worker is lost.
        for one in 2 * (CANCELLABLE if status is None else (status,)):
            after: str | None = None
            while True:
                async with self._database.write() as work:
                    page = Page(CANCEL_BATCH_SIZE, after)
                    found = await work.jobs.page(tenant, page, one, network_id)
                    for job in found[:CANCEL_BATCH_SIZE]:
                        count += await self._transition(work, job, Action.CANCEL) is not None
                if len(found) <= CANCEL_BATCH_SIZE:
                    break
                after = found[CANCEL_BATCH_SIZE - 1].id
        return count

    async def _transition(self, work: UnitOfWork, job: Job, action: Action) -> Job | None:
        """Move a job as a client wants it; None when it moved meanwhile."""
        to = requested(action, job.status)
        if to is job.status:
            return job
        changes: dict[str, Any] = {}
        if to is Status.CANCELLED:
            changes = {"stop_reason": StopReason.USER, "finished_at": datetime.now(UTC)}
        if to in LEASED:
            changes["lease_owner"] = job.lease_owner
        moved = await self._event_log.transition(work, job, to, **changes)
        if moved is not None:
            work.after_commit(lambda: self._dispatcher.signal(moved))
            work.after_commit(self._dispatcher.wake)
        return moved

    async def remove(self, tenant: str, job_id: str) -> None:
        """Forget a job that has ended."""
        async with self._database.write() as work:
            job = await find_job(work, tenant, job_id)
            if not job.terminal:
                raise InvalidTransitionError("delete", job.status, allowed_actions(job.status))
            await work.jobs.remove(job.id)
            dataset = await work.datasets.find(tenant, job.dataset_id)
            if dataset is not None and dataset.hidden and not await work.jobs.any_on(dataset.id):
                await work.datasets.remove(dataset.id)

    async def history(
        self, tenant: str, job_id: str, max_points: int, after_epoch: int
    ) -> dict[str, Any]:
        """Return the epochs as columns, thinned out where there are more than ``max_points``."""
        async with self._database.read() as work:
            job = await find_job(work, tenant, job_id)
            batches = await work.job_events.epochs(job.id)
        return await asyncio.to_thread(columns_of, batches, max_points, after_epoch)


async def read_job(database: Database, tenant: str, job_id: str) -> Job:
    """Return a job as it is now; see `find_job`."""
    async with database.read() as work:
        return await find_job(work, tenant, job_id)


async def find_job(work: UnitOfWork, tenant: str, job_id: str) -> Job:
    """Return a job, the newest for "latest", or say that it is not there."""
    if job_id == "latest":
        found = await work.jobs.page(tenant, Page(limit=1), None, None)
        job = found[0] if found else None
    else:
        job = await work.jobs.find(tenant, job_id)
    if job is None:
        raise NotFoundError("job", job_id)
    return job


def _digest(parts: list[Any]) -> str:
    """Return a digest that is equal for equal work."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
