"""Assigns queued jobs to workers and stores the workers' reports.

A job changes only in the database, by compare-and-set. The dispatcher holds no state that a restart
would lose. The supervisor of a job reads the job again in every transaction, so that a request that
a client made in between takes effect.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, NamedTuple, final

from core.validation import SPLIT_VERSION
from service.application.jobs.event_log import JobEventLog
from service.application.jobs.worker_reports import WorkerReportHandler
from service.application.ports.blobs import BlobStore
from service.application.ports.database import Database, UnitOfWork
from service.application.ports.workers import Attempt, Executor, NoWorkerError
from service.application.training.config import check_compatibility, columns_of
from service.application.training.live_snapshots import LiveSnapshot, LiveSnapshots
from service.application.training.worker_protocol import (
    CheckpointReport,
    PersistedReport,
    Report,
    SnapshotReport,
    TrainingFailedReport,
    TrainingStoppedReport,
    TrainingTask,
    WorkerLostReport,
)
from service.domain.errors import InvalidRequestError, ServiceError, UnavailableError
from service.domain.jobs import Job, Status, StopReason
from service.domain.retention import Quotas

TICK_SECONDS: Final = 1.0
CANCEL_GRACE_SECONDS: Final = 0.4
"""Time that a worker has to stop after a cancellation before it is killed."""
PAUSE_GRACE_SECONDS: Final = 60.0
SHUTDOWN_GRACE_SECONDS: Final = 4.0
MIN_RETRY_SECONDS: Final = 0.2
MAX_RETRY_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 600.0
URGENT_SWEEP_GRACE_SECONDS: Final = 20.0
"""On a full disk, only younger blobs may belong to a row that is not committed yet."""
URGENT_SWEEP_SECONDS: Final = 5.0
URGENT_SECONDS: Final = 120.0
"""Time after a full disk in which blobs are swept every `URGENT_SWEEP_SECONDS`."""

log = logging.getLogger(__name__)


class Server(NamedTuple):
    """A server that uses the database.

    Attributes
    ----------
    id
        Identifies the server as the holder of its leases.
    alone
        True if no other server can use the database.
    """

    id: str
    alone: bool = True


@final
class Dispatcher:
    """Runs the dispatcher loop and one supervisor task for each running job."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        executor: Executor[TrainingTask, Report],
        event_log: JobEventLog,
        live_snapshots: LiveSnapshots,
        quotas: Callable[[str], Quotas],
        server: Server,
        reports: WorkerReportHandler,
    ) -> None:
        self._database, self._blobs, self._executor = database, blobs, executor
        self._event_log, self._live_snapshots = event_log, live_snapshots
        self._server_id, self._alone = server
        self._reports, self._quotas = reports, quotas
        self._attempts: dict[str, Attempt[Report]] = {}
        self._supervisors: set[asyncio.Task[None]] = set()
        self._wakeup = asyncio.Event()
        self._assignment_lock = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self._draining = self._recovered = False
        self._urgent_until = 0.0

    @property
    def slots(self) -> int:
        """Return the number of jobs that can run at a time."""
        return self._executor.slots

    async def start(self) -> None:
        """Requeue the jobs of an earlier server and start to assign jobs."""
        # With a full disk the server still serves reads and predictions.
        with contextlib.suppress(UnavailableError):
            await self._recover()
        await self._executor.start()
        self._loop = asyncio.create_task(self._run())

    async def _recover(self) -> None:
        """Requeue the jobs of an earlier server; a restart does not count as a worker crash."""
        if self._alone:  # otherwise expired leases show which servers are gone
            async with self._database.write() as work:
                for job in await work.jobs.leased_by(None):
                    await self._reports.release_after_server_loss(
                        work, job, "the server was restarted"
                    )
        self._recovered = True

    async def stop(self) -> None:
        """Checkpoint and requeue all jobs, then stop the workers."""
        self._draining = True
        if self._loop is not None:
            async with self._assignment_lock:  # not between the claim of a job and its start
                self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        for attempt in self._attempts.values():
            attempt.stop(kill_after=SHUTDOWN_GRACE_SECONDS)
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        await self._executor.stop()

    def wake(self) -> None:
        """Check the queue now."""
        self._wakeup.set()

    def sweep_often(self) -> None:
        """Delete unreferenced blobs soon after they are, because the disk is full."""
        self._urgent_until = asyncio.get_running_loop().time() + URGENT_SECONDS

    def signal(self, job: Job) -> None:
        """Stop the worker of a job that is being cancelled or paused."""
        attempt = self._attempts.get(job.id)
        if attempt is not None and job.status is Status.CANCELLING:
            attempt.stop(kill_after=CANCEL_GRACE_SECONDS)
        elif attempt is not None and job.status is Status.PAUSING:
            attempt.stop(kill_after=PAUSE_GRACE_SECONDS)

    def on_notification(self, job_id: str) -> None:
        """Handle the notification that another server has added or changed a job."""
        self.wake()
        if job_id in self._attempts:
            self._spawn(self._refresh(job_id))

    async def _refresh(self, job_id: str) -> None:
        with contextlib.suppress(UnavailableError):  # `_keep_leases` checks the job anyway
            async with self._database.read() as work:
                job = await work.jobs.get(job_id)
            if job is not None:
                self.signal(job)

    def checkpoint(self, job_id: str) -> bool:
        """Request a checkpoint from a job's worker; return False if no worker here runs the job."""
        attempt = self._attempts.get(job_id)
        if attempt is not None:
            attempt.checkpoint()
        return attempt is not None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        last_renewal, last_sweep = loop.time(), loop.time()
        while True:
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wakeup.wait()
            except TimeoutError:
                pass
            self._wakeup.clear()
            try:
                if not self._recovered:
                    await self._recover()
                await self._assign_jobs()
                if loop.time() - last_renewal >= TICK_SECONDS:
                    last_renewal = loop.time()
                    await self._keep_leases()
                urgent = loop.time() < self._urgent_until
                interval = URGENT_SWEEP_SECONDS if urgent else SWEEP_SECONDS
                if loop.time() - last_sweep >= interval:
                    last_sweep = loop.time()
                    await self._sweep(URGENT_SWEEP_GRACE_SECONDS if urgent else SWEEP_SECONDS)
            except UnavailableError as error:
                log.warning("the dispatcher is waiting for storage: %s", error.detail)
                await asyncio.sleep(MIN_RETRY_SECONDS)
            except Exception:  # outermost frame: the loop must continue to assign jobs
                log.exception("unexpected error in the dispatcher loop")
                await asyncio.sleep(MIN_RETRY_SECONDS)

    async def _sweep(self, grace: float) -> None:
        """Delete the blobs that no row refers to."""
        referenced = await self._database.referenced_blobs()
        await self._blobs.sweep(referenced, grace=grace)

    async def _assign_jobs(self) -> None:
        """Assign queued jobs to free workers."""
        async with self._assignment_lock:
            while not self._draining and self._executor.free() and await self._claim():
                pass

    async def _keep_leases(self) -> None:
        """Renew this server's leases, signal its jobs, and requeue abandoned jobs."""
        async with self._database.read() as work:
            leased = await work.jobs.leased_by(None)
        ours = [job for job in leased if job.lease_owner == self._server_id]
        for job in ours:
            self.signal(job)  # another server's notification may have been lost
        unattended = any(job.id not in self._attempts for job in ours)
        if not unattended and (self._alone or not leased):
            return
        async with self._database.write() as work:
            if not self._alone:
                await work.jobs.renew(self._server_id)
                for job in await work.jobs.expired(self._server_id):
                    await self._reports.release_after_server_loss(
                        work, job, "its server's lease expired"
                    )
            for job in await work.jobs.leased_by(self._server_id):
                if job.id not in self._attempts:
                    await self._reports.lost(work, job, "its supervisor failed")

    async def _claim(self) -> bool:
        """Claim the longest waiting job and start it on a worker; return False if there is none."""
        # Check without the write lock first, because usually no job is waiting.
        async with self._database.read() as work:
            if await work.jobs.next_queued(await self._tenants_at_limit(work)) is None:
                return False
        async with self._database.write() as work:
            job = await work.jobs.next_queued(await self._tenants_at_limit(work))
            if job is None:
                return False
            try:
                job = await self._with_base(work, job)
                task = await self._task(work, job)
            except ServiceError as error:
                await self._reports.fail(
                    work, job, StopReason.ERROR, error.error_code, error.detail
                )
                return True
            claimed = await self._event_log.transition(
                work,
                job,
                Status.STARTING,
                attempt=job.attempt + 1,
                lease_owner=self._server_id,
                base_version=job.base_version,
                training=job.training,
                split_version=job.split_version,
            )
        if claimed is not None:
            await self._start_attempt(claimed, replace(task, attempt=claimed.attempt))
        return True

    async def _tenants_at_limit(self, work: UnitOfWork) -> list[str]:
        """Return the tenants that have as many running jobs as they may have."""
        running = Counter(job.tenant for job in await work.jobs.leased_by(None))
        limits = {tenant: self._quotas(tenant).running_jobs for tenant in running}
        return [
            tenant
            for tenant, limit in limits.items()
            if limit is not None and running[tenant] >= limit
        ]

    async def _start_attempt(self, job: Job, task: TrainingTask) -> None:
        """Pass a claimed job to a worker and supervise it."""
        try:
            attempt = await self._executor.begin(task)
        except NoWorkerError:
            await self._store(job, TrainingStoppedReport())
            return
        except (OverflowError, TypeError, ValueError) as error:
            detail = f"the job cannot be sent to a worker: {error}"
            await self._store(
                job, TrainingFailedReport(StopReason.ERROR, "not_serializable", detail)
            )
            return
        self._attempts[job.id] = attempt
        self._spawn(self._supervise(job, attempt))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine concurrently with the loop; `stop` waits for it."""
        task = asyncio.create_task(coroutine)
        self._supervisors.add(task)
        task.add_done_callback(self._supervisors.discard)

    async def _with_base(self, work: UnitOfWork, job: Job) -> Job:
        """Return a job with the version that it starts from: at its first start, the latest one.

        Jobs that wait for each other on one network thus continue each other's training.

        Raises
        ------
        InvalidRequestError
            If the job cannot continue on the rows that it began with.
        """
        if job.attempt:
            if job.split_version != SPLIT_VERSION:
                detail = (
                    "the job began with another split into training and validation rows "
                    f"({job.split_version}, now {SPLIT_VERSION}); create it again"
                )
                raise InvalidRequestError(detail, code="split_changed")
            return job
        job = replace(job, split_version=SPLIT_VERSION)
        network = await work.networks.find(job.tenant, job.network_id)
        if network is None or network.latest_version == job.base_version:
            return job
        base = await work.versions.get(network.id, network.latest_version)
        if base is None:
            return job
        # Weights that were trained on standardized or on raw rows continue on the same.
        standardize = job.training["standardize"]
        if base.origin != "initial":
            standardize = base.preprocessing is not None
        training = {**job.training, "standardize": standardize}
        return replace(job, base_version=base.number, training=training)

    async def _task(self, work: UnitOfWork, job: Job) -> TrainingTask:
        """Return the training task of a job; raise InvalidRequestError if it can no longer run."""
        network = await work.networks.find(job.tenant, job.network_id)
        dataset = await work.datasets.find(job.tenant, job.dataset_id)
        if network is None or dataset is None:
            missing = "network" if network is None else "dataset"
            raise InvalidRequestError(f"the {missing} was deleted", code=f"{missing}_deleted")
        base = await work.versions.get(network.id, job.base_version)
        if base is None:
            raise InvalidRequestError("the base version was deleted", code="version_deleted")
        try:
            classes = check_compatibility(network, dataset, job.training)
        except InvalidRequestError as error:  # the labels changed while the job was queued
            raise InvalidRequestError(error.detail, code="incompatible") from error
        return TrainingTask(
            job_id=job.id,
            attempt=job.attempt,
            config=network.config(),
            training=job.training,
            weights=str(self._blobs.path(base.weights_sha256)),
            weights_sha256=base.weights_sha256,
            preprocessing=base.preprocessing,
            dataset=str(self._blobs.path(dataset.sha256)),
            dataset_sha256=dataset.sha256,
            classes=classes,
            columns=columns_of(network, dataset),
            checkpoints=[
                (str(self._blobs.path(checkpoint.blob)), checkpoint.blob)
                for checkpoint in await work.checkpoints.of(job.id)
            ],
            elapsed_seconds=job.progress.elapsed_seconds,
        )

    async def _supervise(self, job: Job, attempt: Attempt[Report]) -> None:
        """Store a worker's reports until its attempt ends."""
        try:
            async with contextlib.aclosing(attempt.reports()) as reports:
                async for report in reports:
                    if isinstance(report, SnapshotReport):
                        self._live_snapshots.publish(
                            job.network_id, LiveSnapshot(job.id, job.base_version, report)
                        )
                    elif not await self._store(job, report):
                        break  # closing `reports` ends the worker, which no longer has the job
        except Exception:  # outermost frame of a connection to a worker
            # The job stays leased without a supervisor until `_keep_leases` requeues it.
            log.exception("the supervisor of %s failed", job.id)
        finally:
            if self._attempts.get(job.id) is attempt:
                del self._attempts[job.id]
            self._live_snapshots.remove(job.network_id, job.id)
            self._wakeup.set()

    async def _store(self, job: Job, report: PersistedReport) -> bool:
        """Store a report; return False if the attempt must end.

        Retry while storage is unavailable, except for checkpoints and during a shutdown.
        """
        if self._draining and isinstance(report, WorkerLostReport):
            # The worker was killed by the shutdown, not by a fault of the job.
            report = TrainingStoppedReport()
        wait = MIN_RETRY_SECONDS
        while True:
            try:
                return await self._reports.apply(job, report)
            except UnavailableError as error:
                log.warning(
                    "cannot store %s of %s: %s", type(report).__name__, job.id, error.detail
                )
                if isinstance(report, CheckpointReport):
                    return True  # the previous checkpoint is intact, and the next follows soon
                if self._draining:
                    return False  # a stored checkpoint must not be ahead of the stored epochs
                await asyncio.sleep(wait)
                wait = min(2 * wait, MAX_RETRY_SECONDS)
