"""The dispatcher: reports of workers become states, events, versions and snapshots."""

from typing import Any

import pytest

from service.application.jobs.event_log import JobEventLog
from service.application.training.worker_protocol import (
    CheckpointReport,
    EpochsReport,
    Report,
    SnapshotReport,
    TrainingFailedReport,
    TrainingFinishedReport,
    TrainingStartedReport,
    TrainingStoppedReport,
    WorkerLostReport,
)
from service.domain.errors import UnavailableError
from service.domain.jobs import Job, Status
from service.infrastructure.blobs.filesystem import FilesystemBlobs
from tests.service.dispatcher_harness import COLUMNS, DispatcherHarness, progress


async def test_reports_of_a_worker_become_events_and_a_version(harness: DispatcherHarness) -> None:
    job = await harness.create_job()
    await harness.report(
        TrainingStartedReport(0, 4, 0),
        EpochsReport(COLUMNS, progress(1)),
        TrainingFinishedReport("epochs_done", b"w", None, {}),
    )

    ended = await harness.wait_for_status(job, Status.SUCCEEDED)

    assert ended.result_version == 1
    async with harness.database.read() as work:
        assert [batch.type for batch in await work.job_events.after(job.id, 0, 99)] == [
            *("state", "state", "state", "log", "epoch", "state", "end")
        ]


async def test_repeated_epoch_reports_are_logged_once(harness: DispatcherHarness) -> None:
    job = await harness.create_job()
    done = EpochsReport(COLUMNS, progress(1))
    await harness.report(
        TrainingStartedReport(0, 4, 0),
        done,
        done,
        done,
        TrainingFinishedReport("epochs_done", b"w", None, {}),
    )

    await harness.wait_for_status(job, Status.SUCCEEDED)

    async with harness.database.read() as work:
        assert len(await work.job_events.epochs(job.id, 0, 10)) == 1


async def test_crashes_and_resumption_are_logged(harness: DispatcherHarness) -> None:
    job = await harness.create_job()
    await harness.report(TrainingStartedReport(0, 4, 0), WorkerLostReport("signal 9, SIGKILL"))
    done = TrainingFinishedReport("epochs_done", b"w", None, {})
    await harness.report(TrainingStartedReport(7, 3, 1, 1), done, attempt=1)

    await harness.wait_for_status(job, Status.SUCCEEDED)

    async with harness.database.read() as work:
        logs = [r.data for r in await work.job_events.after(job.id, 0, 99) if r.type == "log"]
    assert [(log["level"], log["message"]) for log in logs] == [
        ("info", "training starts from version 0 on 4 rows"),
        ("warning", "worker died (signal 9, SIGKILL); the job is queued again"),
        ("warning", "1 newer checkpoint is corrupt"),
        ("info", "training resumes after epoch 7 on 3 rows, with 1 held out for validation"),
    ]


async def test_no_checkpoint_is_stored_ahead_of_its_epochs_while_draining(
    harness: DispatcherHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await harness.create_running_job()
    original, failures = JobEventLog.epochs, [1]

    async def epochs(*arguments: Any) -> Job | None:
        if failures[0]:
            failures[0] -= 1
            raise UnavailableError("the disk is full", code="storage_full")
        return await original(*arguments)

    monkeypatch.setattr(JobEventLog, "epochs", epochs)
    harness.dispatcher._draining = True
    state = CheckpointReport(1, b"state", 0.5, None, None, None)
    await harness.report(EpochsReport(COLUMNS, progress(1)), state, TrainingStoppedReport())

    await harness.wait_until(lambda: harness.executor.attempts[0].closed)
    async with harness.database.read() as work:
        assert await work.checkpoints.of(job.id) == []
        assert await work.job_events.epochs(job.id, 0, 10) == []


async def test_a_job_that_cannot_be_sent_to_a_worker_fails_and_the_next_job_runs(
    harness: DispatcherHarness,
) -> None:
    harness.executor.error = OverflowError("too large")
    first = await harness.create_job()
    assert (await harness.wait_for_status(first, Status.FAILED)).error is not None

    second = await harness.create_job()
    await harness.report(TrainingFailedReport("diverged", "diverged", "epoch 1"))

    failed = await harness.wait_for_status(second, Status.FAILED)
    assert (failed.stop_reason, failed.error) == (
        "diverged",
        {"code": "diverged", "detail": "epoch 1"},
    )


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
async def test_a_requested_stop_decides_the_final_status(
    harness: DispatcherHarness, status: Status, report: Report, end: Status
) -> None:
    job = await harness.create_running_job()
    async with harness.database.write() as work:
        requested = await work.jobs.transition(job, status, lease_owner="here")
    assert requested is not None
    harness.dispatcher.signal(requested)

    await harness.report(report)

    ended = await harness.wait_for_status(job, end)
    assert harness.executor.attempts[0].stopped
    assert ended.result_version == (1 if end is Status.SUCCEEDED else None)


async def test_a_live_snapshot_is_available_only_while_the_job_runs(
    harness: DispatcherHarness,
) -> None:
    job = await harness.create_job()
    await harness.report(TrainingStartedReport(0, 4, 0), SnapshotReport(1, b"w", None))

    await harness.wait_until(lambda: harness.live_snapshots.get(job.network_id))
    await harness.report(TrainingStoppedReport())
    await harness.report(TrainingFinishedReport("epochs_done", b"w", None, {}), attempt=1)
    await harness.wait_for_status(job, Status.SUCCEEDED)

    await harness.wait_until(lambda: harness.live_snapshots.get(job.network_id) is None)


async def test_a_report_is_stored_when_storage_recovers(
    harness: DispatcherHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await harness.create_running_job()
    original, failures = FilesystemBlobs.put, [3]

    async def put(self: FilesystemBlobs, data: bytes) -> str:
        if failures[0]:
            failures[0] -= 1
            raise UnavailableError("the disk is full", code="storage_full")
        return await original(self, data)

    monkeypatch.setattr(FilesystemBlobs, "put", put)
    await harness.report(TrainingFinishedReport("epochs_done", b"w", None, {}))

    assert (await harness.wait_for_status(job, Status.SUCCEEDED)).result_version == 1
    assert failures == [0]


async def test_a_job_fails_when_its_dataset_was_deleted(harness: DispatcherHarness) -> None:
    harness.executor.free = lambda: 0  # type: ignore[method-assign]
    job = await harness.create_job()
    async with harness.database.write() as work:
        await work.datasets.remove(job.dataset_id)
    harness.executor.free = lambda: 1  # type: ignore[method-assign]

    failed = await harness.wait_for_status(job, Status.FAILED)

    assert failed.error is not None
    assert failed.error["code"] == "dataset_deleted"
