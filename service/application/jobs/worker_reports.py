"""Applies the reports of workers to their jobs.

Each report is one transaction. It reads the job again first, so that a request that the client made
in between takes effect.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, final

from service.application.jobs.event_log import MAX_REQUESTED_CHECKPOINTS, JobEventLog
from service.application.networks.versions import append_version
from service.application.ports.blobs import BlobStore
from service.application.ports.database import Database, UnitOfWork
from service.application.training.worker_protocol import (
    CheckpointReport,
    EpochsReport,
    PersistedReport,
    TrainingFailedReport,
    TrainingFinishedReport,
    TrainingStartedReport,
    TrainingStoppedReport,
    WorkerLostReport,
)
from service.domain.identifiers import new_id
from service.domain.jobs import LEASED, ON_WORKER_LOSS, Checkpoint, Job, Status, StopReason
from service.domain.limits import Limits
from service.domain.networks import Version

MAX_CHECKPOINTS: Final = 2


@final
class WorkerReportHandler:
    """Changes jobs when their workers report or are lost.

    Parameters
    ----------
    changed
        Called with a network's id when the network gets a new version.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        event_log: JobEventLog,
        limits: Limits,
        changed: Callable[[str], None],
    ) -> None:
        self._database, self._blobs, self._event_log = database, blobs, event_log
        self._limits, self._changed = limits, changed

    async def apply(self, leased: Job, report: PersistedReport) -> bool:
        """Store a report, its blob first; return False if the attempt no longer has the job."""
        blob = ""
        if isinstance(report, CheckpointReport):
            blob = await self._blobs.put(report.state)
        elif isinstance(report, TrainingFinishedReport):
            blob = await self._blobs.put(report.weights)
        async with self._database.write() as work:
            job = await work.jobs.get(leased.id)
            if job is None or job.attempt != leased.attempt or job.status not in LEASED:
                return False
            await self._apply_in_transaction(work, job, report, blob)
        return True

    async def _apply_in_transaction(
        self, work: UnitOfWork, job: Job, report: PersistedReport, blob: str
    ) -> None:
        """Apply a report to its job within the transaction."""
        match report:
            case TrainingStartedReport():
                await self._started(work, job, report)
            case EpochsReport():
                await self._epochs(work, job, report)
            case CheckpointReport():
                await self._checkpoint(work, job, report, blob)
            case TrainingFinishedReport():
                await self._finish(work, job, report, blob)
            case TrainingStoppedReport():
                await self._release(work, job)
            case TrainingFailedReport():
                reason = StopReason(report.stop_reason)
                await self.fail(work, job, reason, report.code, report.detail)
            case WorkerLostReport():
                await self.lost(work, job, f"worker died ({report.reason})")

    async def _started(self, work: UnitOfWork, job: Job, report: TrainingStartedReport) -> None:
        """Mark a starting job as running and log the rows that it trains on."""
        if job.status is Status.STARTING:
            started = job.started_at or datetime.now(UTC)
            job = (
                await self._event_log.transition(work, job, Status.RUNNING, started_at=started)
                or job
            )
        rows = f"on {report.training_rows} rows"
        if report.validation_rows:
            rows += f", with {report.validation_rows} held out for validation"
        if report.corrupt_checkpoints:
            subject = "checkpoint is" if report.corrupt_checkpoints == 1 else "checkpoints are"
            warning = f"{report.corrupt_checkpoints} newer {subject} corrupt"
            job = await self._log_message(work, job, "warning", warning)
        action = f"starts from version {job.base_version}"
        if report.epoch:
            action = f"resumes after epoch {report.epoch}"
        await self._log_message(work, job, "info", f"training {action} {rows}")

    async def _epochs(self, work: UnitOfWork, job: Job, report: EpochsReport) -> None:
        """Append the epochs that are not in the log yet; repeated epochs are identical."""
        known = job.progress.epoch
        new = [index for index, epoch in enumerate(report.columns["epoch"]) if epoch > known]
        if not new:
            return
        columns = {
            name: [values[index] for index in new] for name, values in report.columns.items()
        }
        updated = await self._event_log.epochs(work, job, columns, report.progress)
        if updated is not None and report.frame is not None:
            await self._event_log.note(work, updated, "boundary", report.frame)

    async def _checkpoint(
        self, work: UnitOfWork, job: Job, report: CheckpointReport, blob: str
    ) -> None:
        """Store a checkpoint and delete the older ones."""
        checkpoint = Checkpoint(
            id=new_id("ckpt"),
            job_id=job.id,
            epoch=report.epoch,
            blob=blob,
            created_at=datetime.now(UTC),
            train_loss=report.train_loss,
            validation_loss=report.validation_loss,
            best_epoch=report.best_epoch,
            preprocessing=report.preprocessing,
            split_version=job.split_version,
        )
        data = {"id": checkpoint.id, "epoch": report.epoch}
        if await self._event_log.note(work, job, "checkpoint", data):
            await work.checkpoints.add(checkpoint)
            await work.checkpoints.prune(job.id, MAX_CHECKPOINTS, MAX_REQUESTED_CHECKPOINTS)

    async def _finish(
        self, work: UnitOfWork, job: Job, report: TrainingFinishedReport, blob: str
    ) -> None:
        """Store the result as a new version; a job that is being cancelled gets none."""
        now = datetime.now(UTC)
        if job.status is Status.CANCELLING:
            await self._end(work, job, Status.CANCELLED, stop_reason=StopReason.USER)
            return
        if job.status is Status.STARTING:
            job = await self._event_log.transition(work, job, Status.RUNNING, started_at=now) or job
        network = await work.networks.find(job.tenant, job.network_id)
        dataset = await work.datasets.find(job.tenant, job.dataset_id)
        if network is None:
            await self.fail(
                work, job, StopReason.ERROR, "network_deleted", "the network was deleted"
            )
            return
        version = Version(
            network_id=network.id,
            number=0,
            origin="job",
            weights_sha256=blob,
            created_at=now,
            parent=job.base_version,
            job_id=job.id,
            dataset_sha256=None if dataset is None else dataset.sha256,
            training=job.training,
            metrics=report.metrics,
            preprocessing=report.preprocessing,
        )
        version = await append_version(work, network, version, self._changed)
        await self._end(
            work,
            job,
            Status.SUCCEEDED,
            stop_reason=report.stop_reason,
            result_version=version.number,
        )

    async def lost(self, work: UnitOfWork, job: Job, reason: str) -> None:
        """Requeue a job that lost its worker, or fail it after its last attempt."""
        if ON_WORKER_LOSS[job.status] is not Status.QUEUED:
            await self._release(work, job)
        elif job.worker_crashes + 1 >= self._limits.attempts:
            detail = f"{reason}, {job.worker_crashes + 1} times"
            await self.fail(work, job, StopReason.INTERRUPTED, "interrupted", detail)
        else:
            job = await self._log_message(
                work, job, "warning", f"{reason}; the job is queued again"
            )
            await self._release(work, job, worker_crashes=job.worker_crashes + 1)

    async def release_after_server_loss(self, work: UnitOfWork, job: Job, reason: str) -> None:
        """Requeue a job whose server is gone; this does not count as a worker crash."""
        if ON_WORKER_LOSS[job.status] is Status.QUEUED:
            job = await self._log_message(
                work, job, "warning", f"{reason}; the job is queued again"
            )
        await self._release(work, job)

    async def fail(
        self, work: UnitOfWork, job: Job, reason: StopReason, code: str, detail: str
    ) -> None:
        """Fail a job, or cancel it if its client has requested that."""
        if job.status is Status.CANCELLING:
            await self._end(work, job, Status.CANCELLED, stop_reason=StopReason.USER)
            return
        error = {"code": code, "detail": detail}
        await self._end(work, job, Status.FAILED, stop_reason=reason, error=error)

    async def _release(self, work: UnitOfWork, job: Job, **changes: Any) -> None:
        """Move a job away from its worker: to the queue, or to paused or cancelled if requested."""
        to = ON_WORKER_LOSS[job.status]
        if to is Status.CANCELLED:
            await self._end(work, job, to, stop_reason=StopReason.USER)
        else:
            await self._event_log.transition(work, job, to, **changes)

    async def _end(self, work: UnitOfWork, job: Job, to: Status, **changes: Any) -> None:
        """Move a job to a terminal status."""
        await self._event_log.transition(work, job, to, finished_at=datetime.now(UTC), **changes)

    async def _log_message(
        self, work: UnitOfWork, job: Job, level: Literal["info", "warning"], message: str
    ) -> Job:
        """Append a message to a job's log."""
        return (
            await self._event_log.note(work, job, "log", {"level": level, "message": message})
            or job
        )
