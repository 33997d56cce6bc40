"""The dispatcher: lost workers, lost servers, expired leases and missed notifications."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import update

from service.application.jobs.dispatcher import Dispatcher, Server
from service.application.jobs.event_bus import EventBus
from service.application.jobs.event_log import JobEventLog
from service.application.jobs.worker_reports import WorkerReportHandler
from service.application.ports.workers import NoWorkerError
from service.application.training.worker_protocol import (
    EpochsReport,
    TrainingFinishedReport,
    TrainingStartedReport,
    TrainingStoppedReport,
    WorkerLostReport,
)
from service.domain.jobs import Status
from service.domain.limits import Limits
from service.domain.retention import Quotas
from service.infrastructure.blobs.filesystem import FilesystemBlobs
from service.infrastructure.database.tables import jobs
from tests.service.dispatcher_harness import COLUMNS, DispatcherHarness, FakeExecutor, progress
from tests.waiting import wait_until


async def test_a_job_is_retried_after_its_supervisor_fails(harness: DispatcherHarness) -> None:
    job = await harness.create_job()
    await harness.report(TrainingStartedReport(0, 4, 0), RuntimeError("planted"))
    await harness.report(TrainingFinishedReport("epochs_done", b"w", None, {}), attempt=1)

    ended = await harness.wait_for_status(job, Status.SUCCEEDED)

    assert ended.attempt == 2


async def test_reports_are_ignored_after_the_lease_expired(
    harness: DispatcherHarness, tmp_path: Path
) -> None:
    job = await harness.create_running_job()
    assert harness.dispatcher._loop is not None
    harness.dispatcher._loop.cancel()  # its leases expire, but its worker keeps running
    async with harness.database.write() as work:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await work.jobs.connection.execute(update(jobs).values(lease_until=past))  # type: ignore[attr-defined]
    executor = FakeExecutor()
    blobs = FilesystemBlobs(tmp_path / "data" / "blobs")
    event_log, server = JobEventLog(EventBus()), Server("there", alone=False)
    reports = WorkerReportHandler(harness.database, blobs, event_log, Limits(), lambda _: None)
    other = Dispatcher(
        harness.database,
        blobs,
        executor,
        event_log,
        harness.live_snapshots,
        lambda _: Quotas(),
        server,
        reports,
    )
    await other.start()

    def has_started() -> bool:
        other.wake()
        return bool(executor.attempts)

    await wait_until(has_started)

    stale = TrainingFinishedReport("epochs_done", b"stale", None, {})
    await harness.report(EpochsReport(COLUMNS, progress(1)), stale)
    executor.attempts[0].reported.put_nowait(TrainingStartedReport(0, 4, 0))
    executor.attempts[0].reported.put_nowait(
        TrainingFinishedReport("epochs_done", b"right", None, {})
    )
    ended = await harness.wait_for_status(job, Status.SUCCEEDED)

    assert (ended.result_version, ended.attempt) == (1, 2)
    async with harness.database.read() as work:
        version = await work.versions.get(job.network_id, 1)
        assert await work.job_events.epochs(job.id, 0, 10) == []
    assert version is not None
    assert version.weights_sha256 == sha256(b"right").hexdigest()
    executor.attempts[0].reported.put_nowait(TrainingStoppedReport())
    await other.stop()


async def test_a_cancel_is_noticed_without_its_notification(harness: DispatcherHarness) -> None:
    job = await harness.create_running_job()

    async with harness.database.write() as work:  # by another server, whose notification was lost
        await work.jobs.transition(job, Status.CANCELLING, lease_owner="here")

    await harness.wait_until(lambda: harness.executor.attempts[0].stopped)
    await harness.report(TrainingStoppedReport())
    await harness.wait_for_status(job, Status.CANCELLED)


async def test_an_attempt_is_closed_when_its_job_was_cancelled_elsewhere(
    harness: DispatcherHarness,
) -> None:
    job = await harness.create_running_job()
    async with harness.database.write() as work:
        queued = await work.jobs.transition(job, Status.QUEUED)
        assert queued is not None
        await work.jobs.transition(queued, Status.CANCELLED)

    await harness.report(EpochsReport(COLUMNS, progress(1)))

    await harness.wait_until(lambda: harness.executor.attempts[0].closed)


async def test_a_job_succeeds_after_four_lost_servers(harness: DispatcherHarness) -> None:
    job = await harness.create_job()
    harness.dispatcher._alone = False
    for index in range(4):
        await harness.report(TrainingStartedReport(0, 4, 0), attempt=index)
        running = await harness.wait_for_status(job, Status.RUNNING)
        async with harness.database.write() as work:
            past = datetime.now(UTC) - timedelta(seconds=1)
            await work.jobs.connection.execute(  # type: ignore[attr-defined]
                update(jobs).values(lease_until=past, lease_owner="gone")
            )
        assert running.attempt == index + 1
        await harness.report(attempt=index + 1)  # waits for the next attempt
        await harness.report(TrainingStoppedReport(), attempt=index)  # has no effect any more

    await harness.report(
        TrainingStartedReport(0, 4, 0),
        TrainingFinishedReport("epochs_done", b"w", None, {}),
        attempt=4,
    )

    assert (await harness.wait_for_status(job, Status.SUCCEEDED)).attempt == 5


@pytest.mark.parametrize(
    ("requested", "end"), [(Status.PAUSING, Status.PAUSED), (Status.CANCELLING, Status.CANCELLED)]
)
async def test_no_queued_message_is_logged_when_a_stop_was_requested_before_the_loss(
    harness: DispatcherHarness, requested: Status, end: Status
) -> None:
    job = await harness.create_running_job()

    async with harness.database.write() as work:
        leased = await work.jobs.transition(job, requested, lease_owner="here")
        assert leased is not None
        await harness.dispatcher._reports.release_after_server_loss(
            work, leased, "the server was restarted"
        )

    await harness.wait_for_status(job, end)
    async with harness.database.read() as work:
        messages = [
            r.data["message"] for r in await work.job_events.after(job.id, 0, 99) if r.type == "log"
        ]
    assert messages == ["training starts from version 0 on 4 rows"]


async def test_a_missing_worker_is_not_counted_as_a_crash(harness: DispatcherHarness) -> None:
    harness.executor.error = NoWorkerError()
    job = await harness.create_job()
    await harness.report(
        TrainingStartedReport(0, 4, 0), TrainingFinishedReport("epochs_done", b"w", None, {})
    )

    ended = await harness.wait_for_status(job, Status.SUCCEEDED)

    assert (ended.attempt, ended.worker_crashes) == (2, 0)


async def test_a_job_fails_with_the_reason_after_three_lost_workers(
    harness: DispatcherHarness,
) -> None:
    job = await harness.create_job()
    for index in range(3):
        await harness.report(
            TrainingStartedReport(0, 4, 0), WorkerLostReport("signal 9, SIGKILL"), attempt=index
        )

    failed = await harness.wait_for_status(job, Status.FAILED)

    assert failed.stop_reason == "interrupted"
    assert failed.error == {
        "code": "interrupted",
        "detail": "worker died (signal 9, SIGKILL), 3 times",
    }
