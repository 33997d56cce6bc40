"""Changes to jobs. Each change writes the job's row and its event log in one transaction."""

from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final, final

from service.application.jobs.event_bus import EventBus
from service.application.ports.database import UnitOfWork
from service.domain.jobs import TERMINAL, EventBatch, Job, Progress, Status

MAX_REQUESTED_CHECKPOINTS: Final = 20
"""Checkpoints that a client requested are retained in addition to the automatic ones."""


@final
class JobEventLog:
    """Changes jobs and appends the changes to their event logs.

    Parameters
    ----------
    drops_checkpoints
        True to delete the automatic checkpoints of a job when it ends. If it is cancelled or fails,
        the last one is retained.
    """

    def __init__(self, event_bus: EventBus, *, drops_checkpoints: bool = True) -> None:
        self.event_bus, self._drops_checkpoints = event_bus, drops_checkpoints

    async def create(self, work: UnitOfWork, job: Job) -> Job:
        """Add a job and the first event of its log."""
        job = replace(job, last_event=1)
        await work.jobs.add(job)
        await self._append(work, EventBatch(job.id, 1, 1, "state", state_of(job)))
        return job

    async def transition(
        self, work: UnitOfWork, job: Job, to: Status, **changes: Any
    ) -> Job | None:
        """Move a job to a status; return None if the job changed concurrently."""
        first = job.last_event + 1
        kinds = ["state", "end"] if to in TERMINAL else ["state"]
        moved = await work.jobs.transition(job, to, last_event=first + len(kinds) - 1, **changes)
        if moved is not None:
            data = state_of(moved)
            events = enumerate(kinds, first)
            await self._append(work, *(EventBatch(job.id, n, n, kind, data) for n, kind in events))
            if to in TERMINAL and self._drops_checkpoints:
                last = 0 if to is Status.SUCCEEDED else 1
                await work.checkpoints.prune(job.id, last, MAX_REQUESTED_CHECKPOINTS)
        return moved

    async def epochs(
        self, work: UnitOfWork, job: Job, columns: dict[str, list[Any]], progress: Progress
    ) -> Job | None:
        """Append epochs and update the progress; return None if the job changed concurrently."""
        first, last = job.last_event + 1, job.last_event + len(columns["epoch"])
        if not await work.jobs.update(job, last_event=last, progress=progress):
            return None
        await self._append(work, EventBatch(job.id, first, last, "epoch", columns))
        return replace(job, last_event=last, progress=progress)

    async def note(self, work: UnitOfWork, job: Job, kind: str, data: dict[str, Any]) -> Job | None:
        """Append an event that does not change the status, such as a checkpoint or a log message.

        Return None if the job changed concurrently.
        """
        event = job.last_event + 1
        if not await work.jobs.update(job, last_event=event):
            return None
        await self._append(work, EventBatch(job.id, event, event, kind, data))
        return replace(job, last_event=event)

    async def _append(self, work: UnitOfWork, *batches: EventBatch) -> None:
        await work.job_events.append(batches)
        for batch in batches:
            work.after_commit(partial(self.event_bus.publish, batch))


def state_of(job: Job) -> dict[str, Any]:
    """Return the data of an event that reports a job's state."""
    return {
        "status": str(job.status),
        "stop_reason": job.stop_reason,
        "attempt": job.attempt,
        "result_version": job.result_version,
        "error": job.error,
        "progress": asdict(job.progress),
    }
