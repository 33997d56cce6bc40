"""The dispatcher over a real store, with workers that do as they are told by the test."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.application.jobs.dispatcher import Dispatcher, Server
from service.application.jobs.event_bus import EventBus
from service.application.jobs.event_log import JobEventLog
from service.application.jobs.worker_reports import WorkerReportHandler
from service.application.training.live_snapshots import LiveSnapshots
from service.application.training.worker_protocol import (
    CheckpointReport,
    EpochsReport,
    NoWorkerError,
    Report,
    SnapshotReport,
    TrainingFailedReport,
    TrainingFinishedReport,
    TrainingStartedReport,
    TrainingStoppedReport,
    TrainingTask,
    WorkerLostReport,
)
from service.bootstrap import prepare
from service.domain.errors import UnavailableError
from service.domain.jobs import Job, Progress, Status
from service.domain.limits import Limits
from service.infrastructure.blobs.filesystem import FilesystemBlobs
from service.infrastructure.database.engine import SqlDatabase, sqlite_url
from service.infrastructure.database.tables import jobs
from service.settings import Settings
from tests.service.fakes import seeded_job

COLUMNS: dict[str, list[Any]] = {
    "epoch": [1],
    "train_loss": [0.5],
    "validation_loss": [None],
    "train_accuracy": [None],
    "validation_accuracy": [None],
    "learning_rate": [0.1],
    "gradient_norm": [1.0],
}


@dataclass
class Hand:
    """An attempt that reports what the test puts in."""

    reported: asyncio.Queue[Report | Exception] = field(default_factory=asyncio.Queue)
    stopped: list[float] = field(default_factory=list)

    over: bool = False

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
            self.over = True

    def stop(self, *, kill_after: float) -> None:
        self.stopped.append(kill_after)

    def checkpoint(self) -> None:
        pass


class Hands:
    """An executor with one slot."""

    slots = 1

    def __init__(self) -> None:
        self.hands: list[Hand] = []
        self.refuses: Exception | None = None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def free(self) -> int:
        return 1

    def alive(self) -> int:
        return 1

    def memory(self) -> int:
        return 0

    async def begin(self, task: TrainingTask) -> Hand:
        if self.refuses is not None:
            refusal, self.refuses = self.refuses, None
            raise refusal
        self.hands.append(Hand())
        return self.hands[-1]


@dataclass
class Stage:
    """A dispatcher and what it stands on."""

    database: SqlDatabase
    hands: Hands
    dispatcher: Dispatcher
    live_snapshots: LiveSnapshots

    async def job(self) -> Job:
        return await seeded_job(self.database)

    async def reaches(self, job: Job, *statuses: Status) -> Job:
        while True:
            async with self.database.read() as work:
                now = await work.jobs.get(job.id)
            assert now is not None
            if now.status in statuses:
                return now
            self.dispatcher.wake()
            await asyncio.sleep(0.01)

    async def running(self) -> Job:
        """Return a job that its worker has begun."""
        job = await self.job()
        await self.report(TrainingStartedReport(0, 4, 0))
        return await self.reaches(job, Status.RUNNING)

    async def report(self, *reports: Report | Exception, hand: int = -1) -> None:
        while len(self.hands.hands) <= max(hand, 0):
            await asyncio.sleep(0.01)
        for report in reports:
            self.hands.hands[hand].reported.put_nowait(report)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    folder = prepare(Settings(data_dir=tmp_path / "data"))
    database = SqlDatabase(sqlite_url(folder.database))
    blobs = FilesystemBlobs(folder.blobs)
    hands, live_snapshots = Hands(), LiveSnapshots(database, blobs, alone=True)
    event_log = JobEventLog(EventBus())
    reports = WorkerReportHandler(database, blobs, event_log, Limits(), lambda _: None)
    dispatcher = Dispatcher(
        database, blobs, hands, event_log, live_snapshots, Limits(), Server("here"), reports
    )
    await dispatcher.start()
    yield Stage(database, hands, dispatcher, live_snapshots)
    for hand in hands.hands:
        hand.reported.put_nowait(TrainingStoppedReport())
    await dispatcher.stop()
    await database.close()
    folder.release()


def progress(epoch: int) -> Progress:
    return Progress(epoch=epoch, epochs=10, train_loss=0.5)


async def test_reports_of_a_worker_become_a_version(stage: Stage) -> None:
    job = await stage.job()
    await stage.report(
        TrainingStartedReport(0, 4, 0),
        EpochsReport(COLUMNS, progress(1)),
        TrainingFinishedReport("epochs_done", b"w", None, {}),
    )

    ended = await stage.reaches(job, Status.SUCCEEDED)

    assert ended.result_version == 1
    async with stage.database.read() as work:
        assert [batch.type for batch in await work.job_events.after(job.id, 0, 99)] == [
            *("state", "state", "state", "log", "epoch", "state", "end")
        ]


async def test_epochs_that_were_told_already_are_not_told_again(stage: Stage) -> None:
    job = await stage.job()
    done = EpochsReport(COLUMNS, progress(1))
    await stage.report(
        TrainingStartedReport(0, 4, 0),
        done,
        done,
        done,
        TrainingFinishedReport("epochs_done", b"w", None, {}),
    )

    await stage.reaches(job, Status.SUCCEEDED)

    async with stage.database.read() as work:
        assert len(await work.job_events.epochs(job.id)) == 1


async def test_a_supervisor_that_fails_does_not_leave_the_job_behind(stage: Stage) -> None:
    job = await stage.job()
    await stage.report(TrainingStartedReport(0, 4, 0), RuntimeError("planted"))
    await stage.report(TrainingFinishedReport("epochs_done", b"w", None, {}), hand=1)

    ended = await stage.reaches(job, Status.SUCCEEDED)

    assert ended.attempt == 2


async def test_a_server_whose_lease_ran_out_can_change_nothing_any_more(
    stage: Stage, tmp_path: Path
) -> None:
    job = await stage.running()
    assert stage.dispatcher._loop is not None
    stage.dispatcher._loop.cancel()  # it renews no lease any more, and its worker goes on
    async with stage.database.write() as work:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await work.jobs.connection.execute(update(jobs).values(lease_until=past))  # type: ignore[attr-defined]
    hands = Hands()
    blobs = FilesystemBlobs(tmp_path / "data" / "blobs")
    event_log, server = JobEventLog(EventBus()), Server("there", alone=False)
    reports = WorkerReportHandler(stage.database, blobs, event_log, Limits(), lambda _: None)
    other = Dispatcher(
        stage.database, blobs, hands, event_log, stage.live_snapshots, Limits(), server, reports
    )
    await other.start()
    while not hands.hands:
        other.wake()
        await asyncio.sleep(0.05)

    stale = TrainingFinishedReport("epochs_done", b"stale", None, {})
    await stage.report(EpochsReport(COLUMNS, progress(1)), stale)
    hands.hands[0].reported.put_nowait(TrainingStartedReport(0, 4, 0))
    hands.hands[0].reported.put_nowait(TrainingFinishedReport("epochs_done", b"right", None, {}))
    ended = await stage.reaches(job, Status.SUCCEEDED)

    assert (ended.result_version, ended.attempt) == (1, 2)
    async with stage.database.read() as work:
        version = await work.versions.get(job.network_id, 1)
        assert await work.job_events.epochs(job.id) == []
    assert version is not None
    assert version.weights_sha256 == sha256(b"right").hexdigest()
    hands.hands[0].reported.put_nowait(TrainingStoppedReport())
    await other.stop()


async def test_a_word_that_was_not_heard_is_found_in_the_store(stage: Stage) -> None:
    job = await stage.running()

    async with stage.database.write() as work:  # by another server, whose word was lost
        await work.jobs.transition(job, Status.CANCELLING, lease_owner="here")

    while not stage.hands.hands[0].stopped:
        await asyncio.sleep(0.01)
    await stage.report(TrainingStoppedReport())
    await stage.reaches(job, Status.CANCELLED)


async def test_a_worker_whose_job_is_in_other_hands_is_ended(stage: Stage) -> None:
    job = await stage.running()
    async with stage.database.write() as work:
        queued = await work.jobs.transition(job, Status.QUEUED)
        assert queued is not None
        await work.jobs.transition(queued, Status.CANCELLED)

    await stage.report(EpochsReport(COLUMNS, progress(1)))

    while not stage.hands.hands[0].over:
        await asyncio.sleep(0.01)


async def test_servers_that_are_lost_do_not_fail_a_job(stage: Stage) -> None:
    job = await stage.job()
    stage.dispatcher._alone = False
    for hand in range(4):
        await stage.report(TrainingStartedReport(0, 4, 0), hand=hand)
        running = await stage.reaches(job, Status.RUNNING)
        async with stage.database.write() as work:
            past = datetime.now(UTC) - timedelta(seconds=1)
            await work.jobs.connection.execute(  # type: ignore[attr-defined]
                update(jobs).values(lease_until=past, lease_owner="gone")
            )
        assert running.attempt == hand + 1
        while len(stage.hands.hands) < hand + 2:
            await asyncio.sleep(0.01)
        await stage.report(TrainingStoppedReport(), hand=hand)  # the old one's word counts no more

    await stage.report(
        TrainingStartedReport(0, 4, 0),
        TrainingFinishedReport("epochs_done", b"w", None, {}),
        hand=4,
    )

    assert (await stage.reaches(job, Status.SUCCEEDED)).attempt == 5


@pytest.mark.parametrize(
    ("requested", "end"), [(Status.PAUSING, Status.PAUSED), (Status.CANCELLING, Status.CANCELLED)]
)
async def test_a_job_that_ends_elsewhere_is_not_said_to_be_queued(
    stage: Stage, requested: Status, end: Status
) -> None:
    job = await stage.running()

    async with stage.database.write() as work:
        held = await work.jobs.transition(job, requested, lease_owner="here")
        assert held is not None
        await stage.dispatcher._reports.release_after_server_loss(
            work, held, "the server was restarted"
        )

    await stage.reaches(job, end)
    async with stage.database.read() as work:
        told = [
            r.data["message"] for r in await work.job_events.after(job.id, 0, 99) if r.type == "log"
        ]
    assert told == ["training begins on 4 rows"]


async def test_what_happens_to_a_job_is_told_in_words(stage: Stage) -> None:
    job = await stage.job()
    await stage.report(TrainingStartedReport(0, 4, 0), WorkerLostReport("signal 9, SIGKILL"))
    done = TrainingFinishedReport("epochs_done", b"w", None, {})
    await stage.report(TrainingStartedReport(7, 3, 1, 1), done, hand=1)

    await stage.reaches(job, Status.SUCCEEDED)

    async with stage.database.read() as work:
        told = [r.data for r in await work.job_events.after(job.id, 0, 99) if r.type == "log"]
    assert [(one["level"], one["message"]) for one in told] == [
        ("info", "training begins on 4 rows"),
        ("warning", "worker died (signal 9, SIGKILL); the job is queued again"),
        ("warning", "1 newer checkpoint is damaged"),
        ("info", "training goes on after epoch 7 on 3 rows, with 1 held out"),
    ]


async def test_a_stop_tells_no_checkpoint_whose_epochs_it_could_not_tell(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await stage.running()
    honest, failures = JobEventLog.epochs, [1]

    async def epochs(*arguments: Any) -> Job | None:
        if failures[0]:
            failures[0] -= 1
            raise UnavailableError("the disk is full", code="storage_full")
        return await honest(*arguments)

    monkeypatch.setattr(JobEventLog, "epochs", epochs)
    stage.dispatcher._draining = True
    state = CheckpointReport(1, b"state", 0.5, None, None, None)
    await stage.report(EpochsReport(COLUMNS, progress(1)), state, TrainingStoppedReport())

    while not stage.hands.hands[0].over:
        await asyncio.sleep(0.01)
    async with stage.database.read() as work:
        assert await work.checkpoints.of(job.id) == []
        assert await work.job_events.epochs(job.id) == []


async def test_a_worker_that_is_gone_when_it_is_wanted_costs_the_job_nothing(stage: Stage) -> None:
    stage.hands.refuses = NoWorkerError()
    job = await stage.job()
    await stage.report(
        TrainingStartedReport(0, 4, 0), TrainingFinishedReport("epochs_done", b"w", None, {})
    )

    ended = await stage.reaches(job, Status.SUCCEEDED)

    assert (ended.attempt, ended.worker_crashes) == (2, 0)


async def test_a_job_that_no_worker_can_be_given_fails_and_the_next_one_runs(stage: Stage) -> None:
    stage.hands.refuses = OverflowError("too large")
    first = await stage.job()
    assert (await stage.reaches(first, Status.FAILED)).error is not None

    second = await stage.job()
    await stage.report(TrainingFailedReport("diverged", "diverged", "epoch 1"))

    failed = await stage.reaches(second, Status.FAILED)
    assert (failed.stop_reason, failed.error) == (
        "diverged",
        {"code": "diverged", "detail": "epoch 1"},
    )


async def test_three_lost_workers_fail_a_job_and_say_why(stage: Stage) -> None:
    job = await stage.job()
    for attempt in range(3):
        await stage.report(
            TrainingStartedReport(0, 4, 0), WorkerLostReport("signal 9, SIGKILL"), hand=attempt
        )

    failed = await stage.reaches(job, Status.FAILED)

    assert failed.stop_reason == "interrupted"
    assert failed.error == {
        "code": "interrupted",
        "detail": "worker died (signal 9, SIGKILL), 3 times",
    }


@pytest.mark.parametrize(
    ("status", "report", "end"),
    [
        (
            Status.CANCELLING,
            TrainingFinishedReport("epochs_done", b"w", None, {}),
            Status.CANCELLED,
        ),
        (Status.CANCELLING, WorkerLostReport("killed"), Status.CANCELLED),
        (Status.CANCELLING, TrainingFailedReport("error", "x", "x"), Status.CANCELLED),
        (Status.CANCELLING, TrainingStoppedReport(), Status.CANCELLED),
        (Status.PAUSING, TrainingStoppedReport(), Status.PAUSED),
        (Status.PAUSING, WorkerLostReport("killed"), Status.PAUSED),
        (Status.PAUSING, TrainingFinishedReport("epochs_done", b"w", None, {}), Status.SUCCEEDED),
    ],
)
async def test_what_a_client_asked_for_meanwhile_decides(
    stage: Stage, status: Status, report: Report, end: Status
) -> None:
    job = await stage.running()
    async with stage.database.write() as work:
        requested = await work.jobs.transition(job, status, lease_owner="here")
    assert requested is not None
    stage.dispatcher.signal(requested)

    await stage.report(report)

    ended = await stage.reaches(job, end)
    assert stage.hands.hands[0].stopped
    assert ended.result_version == (1 if end is Status.SUCCEEDED else None)


async def test_snapshots_are_shown_while_the_job_runs(stage: Stage) -> None:
    job = await stage.job()
    await stage.report(TrainingStartedReport(0, 4, 0), SnapshotReport(1, b"w", None))

    while stage.live_snapshots.get(job.network_id) is None:
        await asyncio.sleep(0.01)
    await stage.report(TrainingStoppedReport())
    await stage.report(TrainingFinishedReport("epochs_done", b"w", None, {}), hand=1)
    await stage.reaches(job, Status.SUCCEEDED)

    while stage.live_snapshots.get(job.network_id) is not None:
        await asyncio.sleep(0.01)


async def test_reports_wait_until_storage_is_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await stage.running()
    honest, failures = FilesystemBlobs.put, [3]

    async def put(self: FilesystemBlobs, data: bytes) -> str:
        if failures[0]:
            failures[0] -= 1
            raise UnavailableError("the disk is full", code="storage_full")
        return await honest(self, data)

    monkeypatch.setattr(FilesystemBlobs, "put", put)
    await stage.report(TrainingFinishedReport("epochs_done", b"w", None, {}))

    assert (await stage.reaches(job, Status.SUCCEEDED)).result_version == 1
    assert failures == [0]


async def test_a_dataset_that_is_gone_ends_the_job_truthfully(stage: Stage) -> None:
    stage.hands.free = lambda: 0  # type: ignore[method-assign]
    job = await stage.job()
    async with stage.database.write() as work:
        await work.datasets.remove(job.dataset_id)
    stage.hands.free = lambda: 1  # type: ignore[method-assign]

    failed = await stage.reaches(job, Status.FAILED)

    assert failed.error is not None
    assert failed.error["code"] == "dataset_deleted"
