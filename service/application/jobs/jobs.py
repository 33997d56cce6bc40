"""Use cases for jobs: submit, list, pause, resume, cancel and delete them."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import randbits
from statistics import fmean
from typing import Any, Final, Literal, NamedTuple, final

from core.validation import SPLIT_VERSION
from service.application.datasets.datasets import find_dataset
from service.application.jobs.dispatcher import Dispatcher
from service.application.jobs.event_log import JobEventLog
from service.application.jobs.history import History, epoch_columns
from service.application.jobs.lookup import find_job, read_job
from service.application.networks.versions import find_network
from service.application.ports.database import Database, UnitOfWork
from service.application.ports.repositories import Page
from service.application.retention.quotas import QuotaCheck
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
from service.domain.features import features_of
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

MAX_RECENT_JOBS: Final = 20
"""Maximum number of finished jobs whose durations predict how long queued jobs wait."""

CANCELLABLE: Final = tuple(
    status for status, to in REQUESTS[Action.CANCEL].items() if to is not status
)
CANCEL_BATCH_SIZE: Final = 50
"""Jobs that one transaction cancels; other writers run between the transactions."""

OnDuplicate = Literal["reject", "return", "replace"]


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that a client submits; its dataset is stored already or sent inline."""

    network: str
    training: dict[str, Any]
    dataset: str | None = None
    inline: Dataset | None = None
    on_duplicate: OnDuplicate | None = None
    demo: bool = False


class QueuePosition(NamedTuple):
    """The position of a job in the queue.

    Attributes
    ----------
    ahead
        Number of jobs before it.
    seconds
        Estimated time until it starts, if the jobs before it take as long as recent jobs; None if
        there is no estimate yet.
    """

    ahead: int
    seconds: float | None


@final
class JobService:
    """Use cases for jobs.

    Parameters
    ----------
    changed
        Called with a network's id when the network changes.
    closing
        Set when the server starts to shut down.
    open_to_all
        Returns True while no API key exists.
    """

    def __init__(
        self,
        database: Database,
        event_log: JobEventLog,
        dispatcher: Dispatcher,
        limits: Limits,
        changed: Callable[[str], None],
        closing: asyncio.Event,
        open_to_all: Callable[[], bool],
        quotas: QuotaCheck,
    ) -> None:
        self._quotas = quotas
        self._closing, self._open_to_all = closing, open_to_all
        self._database, self._event_log, self._event_bus = database, event_log, event_log.event_bus
        self._dispatcher, self._limits, self._changed = dispatcher, limits, changed

    async def submit(self, work: UnitOfWork, tenant: str, new_job: NewJob) -> tuple[Job, bool]:
        """Queue a job; return it and True, or an active job with equal work and False."""
        network, dataset, base, training = await self._resolve(work, tenant, new_job)
        # A random seed does not distinguish jobs that are equal otherwise.
        comparable = {**training, "seed": new_job.training.get("seed")}
        table = [dataset.sha256, dataset.columns]
        fingerprint = _digest([network.id, base.number, *table, comparable])
        if new_job.on_duplicate is not None:
            for duplicate in await work.jobs.equal_work(tenant, fingerprint):
                if new_job.on_duplicate == "return":
                    return duplicate, False
                if new_job.on_duplicate == "reject":
                    problem = f"job {duplicate.id} with equal work is already {duplicate.status}"
                    raise ConflictError(problem, code="duplicate_job", job=duplicate.id)
                await self._transition(work, duplicate, Action.CANCEL)
        await self._check_queue(work, tenant)
        size = network.weights_bytes
        if new_job.inline is not None:
            size += dataset.stored_bytes
        await self._quotas.check(work, tenant, size=size)
        if new_job.inline is not None:
            await work.datasets.add(dataset)
        await self._describe(work, network, dataset)
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
            split_version=SPLIT_VERSION,
            demo=new_job.demo or network.demo,
        )
        work.after_commit(self._dispatcher.wake)
        return await self._event_log.create(work, job), True

    async def _describe(self, work: UnitOfWork, network: NetworkRecord, dataset: Dataset) -> None:
        """Store the features of a resolved network, and a dataset's labels if it has none."""
        described = network
        if network.labels is None and dataset.labels and network.classes == len(dataset.labels):
            described = replace(described, labels=dataset.labels)
        if described != await work.networks.find(network.tenant, network.id):
            described = replace(described, revision=network.revision + 1)
            await work.networks.update(described, network.revision)
            work.after_commit(lambda: self._changed(network.id))

    async def estimate(self, tenant: str, new_job: NewJob) -> Estimate:
        """Validate a job and return its estimated cost."""
        async with self._database.read() as work:
            network, dataset, _, training = await self._resolve(work, tenant, new_job)
        return estimate(network, dataset, training)

    async def _resolve(
        self, work: UnitOfWork, tenant: str, new_job: NewJob
    ) -> tuple[NetworkRecord, Dataset, Version, dict[str, Any]]:
        """Return the job's network, dataset, base version and complete training config."""
        network = await find_network(work, tenant, new_job.network)
        dataset = new_job.inline
        if dataset is None:
            dataset = await find_dataset(work, tenant, new_job.dataset or "")
        base = await work.versions.get(network.id, network.latest_version)
        if base is None:
            raise NotFoundError("version", str(network.latest_version))
        untrained = base.origin == "initial"
        if untrained and not await work.jobs.active_on(network_id=network.id):
            # The first job that trains defines the features. Later names must not change how
            # existing versions read their inputs.
            features = features_of(dataset.columns) if dataset.named else None
            network = replace(network, features=features)
        training = resolve_training_config(
            new_job.training,
            network,
            dataset,
            standardized=None if untrained else base.preprocessing is not None,
            random_seed=randbits(32),
        )
        if training["epochs"] > self._limits.epochs:
            problem = f"expected at most {self._limits.epochs} epochs, got {training['epochs']}"
            raise InvalidRequestError.at("/training/epochs", "out_of_range", problem)
        check_frames(network, training, self._limits)
        check_compatibility(network, dataset, training)
        return network, dataset, base, training

    async def _check_queue(self, work: UnitOfWork, tenant: str) -> None:
        limits = self._limits
        bounds = [(limits.queued_jobs, None), (limits.queued_jobs_per_tenant, tenant)]
        if self._open_to_all():  # without keys there is a single tenant, so its limit has no use
            bounds.pop()
        for limit, counted_tenant in bounds:
            if await work.jobs.count([Status.QUEUED], tenant=counted_tenant) >= limit:
                raise QueueFullError(limit, retry_after=5)

    async def get(self, tenant: str, job_id: str) -> Job:
        """Return a job."""
        return await read_job(self._database, tenant, job_id)

    async def counts(self) -> dict[str, float]:
        """Return the number of jobs in each state, over all tenants."""
        async with self._database.read() as work:
            counts = await work.jobs.counts()
        return {str(status): float(counts.get(status, 0)) for status in Status}

    async def queue_positions(
        self, jobs: Sequence[Job], work: UnitOfWork | None = None
    ) -> dict[str, QueuePosition]:
        """Return the queue positions of the given jobs that are queued, by job id."""
        queued = [job.id for job in jobs if job.status is Status.QUEUED]
        if not queued:
            return {}
        if work is None:
            async with self._database.read() as transaction:
                return await self.queue_positions(jobs, transaction)
        positions = await work.jobs.queue_positions(queued)
        durations = await work.jobs.recent_seconds(MAX_RECENT_JOBS)
        running = [job.progress.eta_seconds for job in await work.jobs.leased_by(None)]
        etas = [seconds for seconds in running if seconds is not None]
        slots = self._dispatcher.slots

        def wait(ahead: int) -> float | None:
            """Return the estimated seconds until a job with ``ahead`` jobs before it starts."""
            # With a limit for each tenant, later jobs of other tenants may start first.
            limited = self._quotas.of(jobs[0].tenant).running_jobs is not None
            if limited or len(etas) < len(running) or (ahead and not durations):
                return None
            queued_work = fmean(durations) * ahead if ahead else 0.0
            first_free = min(etas) if len(etas) >= slots else 0.0
            return round(first_free + queued_work / slots, 1)

        return {job_id: QueuePosition(ahead, wait(ahead)) for job_id, ahead in positions.items()}

    async def page(
        self, tenant: str, pagination: Page, status: str | None, network: str | None
    ) -> list[Job]:
        """Return a page of jobs, plus one job if there are more."""
        async with self._database.read() as work:
            network_id = None
            if network is not None:
                network_id = (await find_network(work, tenant, network)).id
            return await work.jobs.page(tenant, pagination, status, network_id)

    async def wait(self, tenant: str, job_id: str, seconds: float) -> Job:
        """Return a job when its status changes, when it has ended, or after ``seconds``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        job_id = (await self.get(tenant, job_id)).id
        wakeup = self._event_bus.next(job_id)
        job = first = await self.get(tenant, job_id)
        while job.status == first.status and not job.terminal and not self._closing.is_set():
            remaining = deadline - loop.time()
            if remaining <= 0:
                break
            await asyncio.wait([wakeup], timeout=remaining)
            wakeup = self._event_bus.next(job_id)
            job = await self.get(tenant, job_id)
        return job

    async def finished(self, tenant: str, job_id: str, seconds: float) -> Job:
        """Return a job when it has ended, or after ``seconds``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        job = await self.get(tenant, job_id)
        while not job.terminal and not self._closing.is_set():
            remaining = deadline - loop.time()
            if remaining <= 0:
                break
            job = await self.wait(tenant, job_id, remaining)
        return job

    async def request(self, tenant: str, job_id: str, action: Action) -> Job:
        """Pause, resume or cancel a job; a repeated request changes nothing.

        Raises
        ------
        InvalidTransitionError
            If the job's status does not allow the action.
        """
        while True:
            async with self._database.write() as work:
                job = await find_job(work, tenant, job_id)
                moved = await self._transition(work, job, action)
            if moved is not None:
                return moved

    async def cancel_all(self, tenant: str, status: Status | None, network: str | None) -> int:
        """Cancel all matching jobs, newest first, in batches; return their number."""
        network_id, count = None, 0
        if network is not None:
            async with self._database.read() as work:
                network_id = (await find_network(work, tenant, network)).id
        # Twice, because a job may go back in between: from running to queued if its worker is lost.
        for current in 2 * (CANCELLABLE if status is None else (status,)):
            after: str | None = None
            while True:
                async with self._database.write() as work:
                    pagination = Page(CANCEL_BATCH_SIZE, after)
                    jobs = await work.jobs.page(tenant, pagination, current, network_id)
                    for job in jobs[:CANCEL_BATCH_SIZE]:
                        count += await self._transition(work, job, Action.CANCEL) is not None
                if len(jobs) <= CANCEL_BATCH_SIZE:
                    break
                after = jobs[CANCEL_BATCH_SIZE - 1].id
        return count

    async def _transition(self, work: UnitOfWork, job: Job, action: Action) -> Job | None:
        """Apply a client's action to a job; return None if the job changed concurrently."""
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
        """Delete a job that has ended, with its inline dataset if no other job uses it."""
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
        """Return the epochs as columns, downsampled to at most ``max_points``."""
        async with self._database.read() as work:
            job = await find_job(work, tenant, job_id)
            history = History(after_epoch)
            async for columns in epoch_columns(work, job.id):
                history.add(columns)
        return await asyncio.to_thread(history.sampled, max_points)


def _digest(parts: list[Any]) -> str:
    """Return a digest that is equal for equal work."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
