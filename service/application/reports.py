"""What workers report about jobs, written into the store.

A report is one transaction, which reads the job again first: what its client asked for in between
decides.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, final

from service.application.attempts import (
    CheckpointTaken,
    EpochsDone,
    Failed,
    Finished,
    Lost,
    Started,
    Stopped,
    Stored,
)
from service.application.chronicle import Chronicle
from service.application.ports import Blobs, Store, Work
from service.application.versions import append_version
from service.domain.identifiers import new_id
from service.domain.jobs import AFTER_LOSS, HELD, Checkpoint, Job, Status, StopReason
from service.domain.limits import Limits
from service.domain.networks import Version

CHECKPOINTS_KEPT: Final = 2
ASKED_KEPT: Final = 20
"""Checkpoints that a client asked for are kept beside those that are taken anyway."""


@final
class Reports:
    """Moves jobs as their workers, or the loss of them, would have it.

    Parameters
    ----------
    changed
        Called with a network's id when it got a version.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        chronicle: Chronicle,
        limits: Limits,
        changed: Callable[[str], None],
    ) -> None:
        self._store, self._blobs, self._chronicle = store, blobs, chronicle
        self._limits, self._changed = limits, changed

    async def take(self, held: Job, report: Stored) -> bool:
        """Store a report: its blob first, then the rest; False where others have the job by now."""
        blob = ""
        if isinstance(report, CheckpointTaken):
            blob = await self._blobs.put(report.state)
        elif isinstance(report, Finished):
            blob = await self._blobs.put(report.weights)
        async with self._store.write() as work:
            job = await work.jobs.get(held.id)
            if job is None or job.run != held.run or job.status not in HELD:
                return False
            await self._apply(work, job, report, blob)
        return True

    async def _apply(self, work: Work, job: Job, report: Stored, blob: str) -> None:
        """Let a report change the job that it is of."""
        match report:
            case Started():
                await self._started(work, job, report)
            case EpochsDone():
                await self._epochs(work, job, report)
            case CheckpointTaken():
                await self._checkpoint(work, job, report, blob)
            case Finished():
                await self._finish(work, job, report, blob)
            case Stopped():
                await self._let_go(work, job)
            case Failed():
                reason = StopReason(report.stop_reason)
                await self.fail(work, job, reason, report.code, report.detail)
            case Lost():
                await self.lost(work, job, f"worker died ({report.reason})")

    async def _started(self, work: Work, job: Job, report: Started) -> None:
        """Tell that the worker trains, unless the client wanted something else meanwhile."""
        if job.status is Status.STARTING:
            started = job.started_at or datetime.now(UTC)
            job = await self._chronicle.move(work, job, Status.RUNNING, started_at=started) or job
        rows = f"on {report.training_rows} rows"
        if report.validation_rows:
            rows += f", with {report.validation_rows} held out"
        if report.damaged:
            are = "checkpoint is" if report.damaged == 1 else "checkpoints are"
            damage = f"{report.damaged} newer {are} damaged"
            job = await self._remark(work, job, "warning", damage)
        begin = f"goes on after epoch {report.epoch}" if report.epoch else "begins"
        await self._remark(work, job, "info", f"training {begin} {rows}")

    async def _epochs(self, work: Work, job: Job, report: EpochsDone) -> None:
        """Write down the epochs that are new: those of an earlier attempt came out the same."""
        known = job.progress.epoch
        fresh = [index for index, epoch in enumerate(report.columns["epoch"]) if epoch > known]
        if not fresh:
            return
        columns = {
            name: [values[index] for index in fresh] for name, values in report.columns.items()
        }
        told = await self._chronicle.epochs(work, job, columns, report.progress)
        if told is not None and report.frame is not None:
            await self._chronicle.note(work, told, "boundary", report.frame)

    async def _checkpoint(self, work: Work, job: Job, report: CheckpointTaken, blob: str) -> None:
        """Remember a checkpoint, and forget the older ones."""
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
        )
        data = {"id": checkpoint.id, "epoch": report.epoch}
        if await self._chronicle.note(work, job, "checkpoint", data):
            await work.checkpoints.add(checkpoint)
            await work.checkpoints.prune(job.id, CHECKPOINTS_KEPT, ASKED_KEPT)

    async def _finish(self, work: Work, job: Job, report: Finished, blob: str) -> None:
        """Publish the result; a job that is being cancelled publishes nothing."""
        now = datetime.now(UTC)
        if job.status is Status.CANCELLING:
            await self._end(work, job, Status.CANCELLED, stop_reason=StopReason.USER)
            return
        if job.status is Status.STARTING:
            job = await self._chronicle.move(work, job, Status.RUNNING, started_at=now) or job
        network = await work.networks.find(job.owner, job.network_id)
        dataset = await work.datasets.find(job.owner, job.dataset_id)
        if network is None:
            await self.fail(work, job, StopReason.ERROR, "network_deleted", "the network is gone")
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

    async def lost(self, work: Work, job: Job, reason: str) -> None:
        """Give a job that lost its worker another attempt, or end it truthfully."""
        if AFTER_LOSS[job.status] is not Status.QUEUED:
            await self._let_go(work, job)
        elif job.losses + 1 >= self._limits.attempts:
            detail = f"{reason}, {job.losses + 1} times"
            await self.fail(work, job, StopReason.INTERRUPTED, "interrupted", detail)
        else:
            job = await self._remark(work, job, "warning", f"{reason}; the job is queued again")
            await self._let_go(work, job, attempt=job.attempt + 1, losses=job.losses + 1)

    async def abandoned(self, work: Work, job: Job, reason: str) -> None:
        """Put a job back whose server is gone, which is not the job's fault."""
        if AFTER_LOSS[job.status] is Status.QUEUED:
            job = await self._remark(work, job, "warning", f"{reason}; the job is queued again")
        await self._let_go(work, job, attempt=job.attempt + 1)

    async def fail(self, work: Work, job: Job, reason: StopReason, code: str, detail: str) -> None:
        """End a job with the reason, unless its client wanted it gone anyway."""
        if job.status is Status.CANCELLING:
            await self._end(work, job, Status.CANCELLED, stop_reason=StopReason.USER)
            return
        error = {"code": code, "detail": detail}
        await self._end(work, job, Status.FAILED, stop_reason=reason, error=error)

    async def _let_go(self, work: Work, job: Job, **changes: Any) -> None:
        """Take a job from its worker: to the queue, or to where its client wanted it."""
        to = AFTER_LOSS[job.status]
        if to is Status.CANCELLED:
            await self._end(work, job, to, stop_reason=StopReason.USER)
        else:
            await self._chronicle.move(work, job, to, **changes)

    async def _end(self, work: Work, job: Job, to: Status, **changes: Any) -> None:
        """Move a job to where nothing changes any more."""
        await self._chronicle.move(work, job, to, finished_at=datetime.now(UTC), **changes)

    async def _remark(
        self, work: Work, job: Job, level: Literal["info", "warning"], message: str
    ) -> Job:
        """Write a sentence for people into a job's log."""
        return (
            await self._chronicle.note(work, job, "log", {"level": level, "message": message})
            or job
        )
