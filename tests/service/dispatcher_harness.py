"""A dispatcher over a real database, with an executor whose reports come from the test."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.application.jobs.dispatcher import Dispatcher, Server
from service.application.jobs.event_bus import EventBus
from service.application.jobs.event_log import JobEventLog
from service.application.jobs.worker_reports import WorkerReportHandler
from service.application.training.live_snapshots import LiveSnapshots
from service.application.training.worker_protocol import (
    Report,
    TrainingFailedReport,
    TrainingFinishedReport,
    TrainingStartedReport,
    TrainingStoppedReport,
    TrainingTask,
    WorkerLostReport,
)
from service.bootstrap import prepare
from service.domain.jobs import Job, Progress, Status
from service.domain.limits import Limits
from service.domain.retention import Quotas
from service.infrastructure.blobs.filesystem import FilesystemBlobs
from service.infrastructure.database.engine import SqlDatabase, sqlite_url
from service.settings import Settings
from tests.service.fakes import seeded_job
from tests.waiting import wait_until

COLUMNS: dict[str, list[Any]] = {
    "epoch": [1],
    "train_loss": [0.5],
    "validation_loss": [None],
    "train_accuracy": [None],
    "validation_accuracy": [None],
    "learning_rate": [0.1],
    "gradient_norm": [1.0],
}


def progress(epoch: int) -> Progress:
    return Progress(epoch=epoch, epochs=10, train_loss=0.5)


@dataclass
class FakeAttempt:
    """An attempt that yields the reports that the test queues."""

    reported: asyncio.Queue[Report | Exception] = field(default_factory=asyncio.Queue)
    stopped: list[float] = field(default_factory=list)
    closed: bool = False

    async def reports(self) -> AsyncGenerator[Report]:
        try:
            while True:
                report = await self.reported.get()
                if isinstance(report, Exception):
                    raise report
                yield report
                if isinstance(
                    report,
                    TrainingStoppedReport
                    | TrainingFinishedReport
                    | TrainingFailedReport
                    | WorkerLostReport,
                ):
                    return
        finally:
            self.closed = True

    def stop(self, *, kill_after: float) -> None:
        self.stopped.append(kill_after)

    def checkpoint(self) -> None:
        pass


class FakeExecutor:
    """An executor with one slot."""

    slots = 1

    def __init__(self) -> None:
        self.attempts: list[FakeAttempt] = []
        self.error: Exception | None = None
        """Raised once by `begin`."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def free(self) -> int:
        return 1

    def available(self) -> bool:
        return True

    def alive(self) -> int:
        return 1

    def memory(self) -> int:
        return 0

    async def begin(self, task: TrainingTask) -> FakeAttempt:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.attempts.append(FakeAttempt())
        return self.attempts[-1]


@dataclass
class DispatcherHarness:
    """A dispatcher and its collaborators."""

    database: SqlDatabase
    executor: FakeExecutor
    dispatcher: Dispatcher
    live_snapshots: LiveSnapshots

    async def create_job(self) -> Job:
        return await seeded_job(self.database)

    async def create_running_job(self) -> Job:
        """Return a job that its worker has started."""
        job = await self.create_job()
        await self.report(TrainingStartedReport(0, 4, 0))
        return await self.wait_for_status(job, Status.RUNNING)

    async def wait_until(self, condition: Callable[[], Any]) -> Any:
        """Wait for a condition, and wake the dispatcher before each check."""

        def check() -> Any:
            self.dispatcher.wake()
            return condition()

        return await wait_until(check)

    async def wait_for_status(self, job: Job, status: Status) -> Job:
        """Return the job when it has this status."""

        async def match() -> Job | None:
            async with self.database.read() as work:
                current = await work.jobs.get(job.id)
            assert current is not None
            return current if current.status is status else None

        reached: Job = await self.wait_until(match)
        return reached

    async def report(self, *reports: Report | Exception, attempt: int = -1) -> None:
        """Queue reports of the latest attempt, or of the one with this index when it begins."""
        await self.wait_until(lambda: len(self.executor.attempts) > max(attempt, 0))
        for report in reports:
            self.executor.attempts[attempt].reported.put_nowait(report)


@asynccontextmanager
async def dispatching(data_dir: Path) -> AsyncIterator[DispatcherHarness]:
    """Run a dispatcher over a new data directory."""
    folder = prepare(Settings(data_dir=data_dir))
    database = SqlDatabase(sqlite_url(folder.database))
    blobs = FilesystemBlobs(folder.blobs)
    executor, live_snapshots = FakeExecutor(), LiveSnapshots(database, blobs, alone=True)
    event_log = JobEventLog(EventBus())
    reports = WorkerReportHandler(database, blobs, event_log, Limits(), lambda _: None)
    dispatcher = Dispatcher(
        database,
        blobs,
        executor,
        event_log,
        live_snapshots,
        lambda _: Quotas(),
        Server("here"),
        reports,
    )
    await dispatcher.start()
    yield DispatcherHarness(database, executor, dispatcher, live_snapshots)
    for attempt in executor.attempts:
        attempt.reported.put_nowait(TrainingStoppedReport())
    await dispatcher.stop()
    await database.close()
    folder.release()
