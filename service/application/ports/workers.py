"""Workers, which run training jobs.

The task and the reports are those of `service.application.training.worker_protocol`.
"""

from collections.abc import AsyncGenerator
from typing import Protocol, TypeVar

TaskT = TypeVar("TaskT", contravariant=True)
ReportT = TypeVar("ReportT", covariant=True)


class Attempt(Protocol[ReportT]):
    """An attempt at a job by a worker."""

    def reports(self) -> AsyncGenerator[ReportT]:
        """Yield the worker's reports.

        The last one reports that training stopped, finished or failed, or that the worker is lost.
        """

    def stop(self, *, kill_after: float) -> None:
        """Request a last checkpoint and the end of the attempt.

        The worker is killed after ``kill_after`` seconds. A repeated call only moves this deadline,
        and only to an earlier time.
        """

    def checkpoint(self) -> None:
        """Request a checkpoint now."""


class NoWorkerError(Exception):
    """The free worker has ended; another one will replace it."""


class Executor(Protocol[TaskT, ReportT]):
    """Runs attempts on workers."""

    slots: int

    async def start(self) -> None:
        """Start the workers."""

    def free(self) -> int:
        """Return the number of attempts that can start now."""

    def alive(self) -> int:
        """Return the number of workers that are ready or at work."""

    def available(self) -> bool:
        """Return False if no worker is ready and none was a moment ago."""

    def memory(self) -> int:
        """Return the memory of all workers in bytes."""

    async def begin(self, task: TaskT) -> Attempt[ReportT]:
        """Start a task on a free worker; raise NoWorkerError if the worker has ended."""

    async def stop(self) -> None:
        """Stop all workers."""
