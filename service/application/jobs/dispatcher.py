"""Brings queued jobs to workers, and what workers report to the store.

A job is moved only in the store, by compare-and-set; the dispatcher holds nothing that a restart
would lose. Its supervisor of a job reads the job again in every transaction, so that what a
client asked for in between decides.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final, NamedTuple, final

from service.application.jobs.event_log import JobEventLog
from service.application.jobs.worker_reports import WorkerReportHandler
from service.application.ports import BlobStore, Database, UnitOfWork
from service.application.training.config import check_compatibility
from service.application.training.live_snapshots import LiveSnapshot, LiveSnapshots
from service.application.training.worker_protocol import (
    Attempt,
    CheckpointReport,
    Executor,
    NoWorkerError,
    PersistedReport,
    SnapshotReport,
    TrainingFailedReport,
    TrainingStoppedReport,
    TrainingTask,
    WorkerLostReport,
)
from service.domain.errors import InvalidRequestError, ServiceError, UnavailableError
from service.domain.jobs import Job, Status, StopReason
from service.domain.limits import Limits

TICK_SECONDS: Final = 1.0
CANCEL_GRACE: Final = 0.4
"""Seconds that a worker has to end by itself after a cancel, before it is killed."""
PAUSE_GRACE: Final = 60.0
SHUTDOWN_GRACE: Final = 4.0
RETRY_SECONDS: Final = (0.2, 5.0)
SWEEP_SECONDS: Final = 600.0

log = logging.getLogger(__name__)


class Server(NamedTuple):
    """A server among those that use the store.

    Attributes
    ----------
    id
        Under which it holds its leases.
    alone
        Whether there can be no other.
    """

    id: str
    alone: bool = True


@final
class Dispatcher:
    """The loop and its supervisors."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        executor: Executor,
        event_log: JobEventLog,
        live_snapshots: LiveSnapshots,
        limits: Limits,
        server: Server,
        reports: WorkerReportHandler,
    ) -> None:
        self._database, self._blobs, self._executor = database, blobs, executor
        self._event_log, self._live_snapshots, self._limits = event_log, live_snapshots, limits
        self._server_id, self._alone = server
        self._reports = reports
        self._attempts: dict[str, Attempt] = {}
        self._supervisors: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._handing_out = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self._draining = self._recovered = False

    @property
    def slots(self) -> int:
        """How many jobs can run at a time."""
        return self._executor.slots

    async def start(self) -> None:
        """Put back what an earlier server left, and begin to hand out jobs."""
        with contextlib.suppress(UnavailableError):  # a full disk: reading and classifying go on
            await self._recover()
        await self._executor.start()
        self._loop = asyncio.create_task(self._run())

    async def _recover(self) -> None:
        """Put back what an earlier server left; a restart is not the job's fault."""
        if self._alone:  # else their leases tell which servers are gone
            async with self._database.write() as work:
                for job in await work.jobs.leased_by(None):
                    await self._reports.release_after_server_loss(
                        work, job, "the server was restarted"
                    )
        self._recovered = True

    async def stop(self) -> None:
        """Checkpoint all jobs, put them back into the queue, end the workers."""
        self._draining = True
        if self._loop is not None:
            async with self._handing_out:  # not between a claim and its worker
                self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        for attempt in self._attempts.values():
            attempt.stop(kill_after=SHUTDOWN_GRACE)
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        await self._executor.stop()

    def wake(self) -> None:
        """Look at the queue now."""
        self._news.set()

    def signal(self, job: Job) -> None:
        """Tell the worker of a job what its state now asks for."""
        attempt = self._attempts.get(job.id)
        if attempt is not None and job.status is Status.CANCELLING:
            attempt.stop(kill_after=CANCEL_GRACE)
        elif attempt is not None and job.status is Status.PAUSING:
            attempt.stop(kill_after=PAUSE_GRACE)

    def on_notification(self, job_id: str) -> None:
        """Act on what another server wrote down about a job: a new one, or one of ours."""
        self.wake()
        if job_id in self._attempts:
            self._spawn(self._refresh(job_id))

    async def _refresh(self, job_id: str) -> None:
        with contextlib.suppress(UnavailableError):  # `_keep_leases` looks at it anyway
            async with self._database.read() as work:
                job = await work.jobs.get(job_id)
            if job is not None:
                self.signal(job)

    def checkpoint(self, job_id: str) -> bool:
        """Ask a job's worker for a checkpoint; False when no worker has the job."""
        attempt = self._attempts.get(job_id)
        if attempt is not None:
            attempt.checkpoint()
        return attempt is not None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        renewed, swept = loop.time(), loop.time()
        while True:
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            try:
                if not self._recovered:
                    await self._recover()
                await self._hand_out()
                if loop.time() - renewed >= TICK_SECONDS:
                    renewed = loop.time()
                    await self._keep_leases()
                if loop.time() - swept >= SWEEP_SECONDS:
                    swept = loop.time()
                    keep = await self._database.referenced_blobs()
                    await self._blobs.sweep(keep, grace=SWEEP_SECONDS)
            except UnavailableError as error:
                log.warning("the dispatcher waits for storage: %s", error.detail)
                await asyncio.sleep(RETRY_SECONDS[0])
            except Exception:  # the top frame of the loop: jobs must go on being handed out
                log.exception("the dispatcher stumbled")
                await asyncio.sleep(RETRY_SECONDS[0])

    async def _hand_out(self) -> None:
        """Give queued jobs to the workers that are free."""
        async with self._handing_out:
            while not self._draining and self._executor.free() and await self._claim():
                pass

    async def _keep_leases(self) -> None:
        """Renew our leases, act on what was asked of our jobs, take over what is abandoned."""
        async with self._database.read() as work:
            held = await work.jobs.leased_by(None)
        ours = [job for job in held if job.lease_owner == self._server_id]
        for job in ours:
            self.signal(job)  # what another server told us of it may not have been heard
        unattended = any(job.id not in self._attempts for job in ours)
        if not unattended and (self._alone or not held):
            return
        async with self._database.write() as work:
            if not self._alone:
                await work.jobs.renew(self._server_id)
                for job in await work.jobs.expired(self._server_id):
                    await self._reports.release_after_server_loss(
                        work, job, "its server's lease ran out"
                    )
            for job in await work.jobs.leased_by(self._server_id):
                if job.id not in self._attempts:
                    await self._reports.lost(work, job, "its supervisor failed")

    async def _claim(self) -> bool:
        """Hand the job that has waited longest to a worker; False when none waits."""
        # Looked at without the write lock first: most of the time none waits.
        async with self._database.read() as work:
            if await work.jobs.next_queued(self._limits.running_jobs_per_tenant) is None:
                return False
        async with self._database.write() as work:
            job = await work.jobs.next_queued(self._limits.running_jobs_per_tenant)
            if job is None:
                return False
            try:
                task = await self._task(work, job)
            except ServiceError as error:
                await self._reports.fail(
                    work, job, StopReason.ERROR, error.error_code, error.detail
                )
                return True
            held = await self._event_log.transition(
                work, job, Status.STARTING, attempt=job.attempt + 1, lease_owner=self._server_id
            )
        if held is not None:
            await self._begin(held, replace(task, attempt=held.attempt))
        return True

    async def _begin(self, job: Job, task: TrainingTask) -> None:
        """Hand a claimed job to a worker and follow it."""
        try:
            attempt = await self._executor.begin(task)
        except NoWorkerError:
            await self._stored(job, TrainingStoppedReport())
            return
        except (OverflowError, TypeError, ValueError) as error:
            detail = f"the job cannot be handed to a worker: {error}"
            await self._stored(
                job, TrainingFailedReport(StopReason.ERROR, "not_serializable", detail)
            )
            return
        self._attempts[job.id] = attempt
        self._spawn(self._supervise(job, attempt))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let work go on beside the loop; `stop` waits for it."""
        task = asyncio.create_task(work)
        self._supervisors.add(task)
        task.add_done_callback(self._supervisors.discard)

    async def _task(self, work: UnitOfWork, job: Job) -> TrainingTask:
        """Return what a worker needs; what is gone by now is a refusal."""
        network = await work.networks.find(job.tenant, job.network_id)
        dataset = await work.datasets.find(job.tenant, job.dataset_id)
        if network is None or dataset is None:
            gone = "network" if network is None else "dataset"
            raise InvalidRequestError(f"the {gone} was deleted", code=f"{gone}_deleted")
        base = await work.versions.get(network.id, job.base_version)
        if base is None:
            raise InvalidRequestError("the base version is gone", code="version_deleted")
        try:
            classes = check_compatibility(network, dataset, job.training)
        except InvalidRequestError as error:  # its labels were changed while the job waited
            raise InvalidRequestError(error.detail, code="incompatible") from error
        return TrainingTask(
            job_id=job.id,
            attempt=job.attempt,
            spec=network.spec(),
            training=job.training,
            weights=str(self._blobs.path(base.weights_sha256)),
            weights_sha256=base.weights_sha256,
            preprocessing=base.preprocessing,
            dataset=str(self._blobs.path(dataset.sha256)),
            dataset_sha256=dataset.sha256,
            classes=classes,
            checkpoints=[
                (str(self._blobs.path(checkpoint.blob)), checkpoint.blob)
                for checkpoint in await work.checkpoints.of(job.id)
            ],
            elapsed_seconds=job.progress.elapsed_seconds,
        )

    async def _supervise(self, job: Job, attempt: Attempt) -> None:
        """Take a worker's reports until it is done with the job."""
        try:
            async with contextlib.aclosing(attempt.reports()) as reports:
                async for report in reports:
                    if isinstance(report, SnapshotReport):
                        self._live_snapshots.publish(
                            job.network_id, LiveSnapshot(job.id, job.base_version, report)
                        )
                    elif not await self._stored(job, report):
                        break  # the worker is ended: what it trains is nobody's
        except Exception:  # the top frame of a connection to a worker
            # `_keep_leases` puts the job back: it is held, and in nobody's hands.
            log.exception("the supervisor of %s failed", job.id)
        finally:
            if self._attempts.get(job.id) is attempt:
                del self._attempts[job.id]
            self._live_snapshots.remove(job.network_id, job.id)
            self._news.set()

    async def _stored(self, job: Job, report: PersistedReport) -> bool:
        """Store a report, trying again as long as storage refuses; False where none may follow."""
        if self._draining and isinstance(report, WorkerLostReport):
            report = (
                TrainingStoppedReport()
            )  # killed for the server's stop, not by a fault of the job
        wait, longest = RETRY_SECONDS
        while True:
            try:
                return await self._reports.apply(job, report)
            except UnavailableError as error:
                log.warning("%s of %s waits: %s", type(report).__name__, job.id, error.detail)
                if isinstance(report, CheckpointReport):
                    return True  # the one before is whole, and the next comes soon
                if self._draining:
                    return False  # a checkpoint must not be ahead of the epochs that were told
                await asyncio.sleep(wait)
                wait = min(2 * wait, longest)
