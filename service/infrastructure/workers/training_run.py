"""One attempt at a job, from its task to its result."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from core.errors import DivergedError, EngineError
from core.metrics import class_indices
from core.trainer_state import Epoch
from core.training import Trainer
from service.application.training.config import training_config_from
from service.application.training.worker_protocol import (
    CheckpointReport,
    EpochsReport,
    Report,
    SnapshotReport,
    TrainingFinishedReport,
    TrainingStartedReport,
    TrainingStoppedReport,
    TrainingTask,
)
from service.domain.jobs import Progress
from service.infrastructure.workers.boundary_frames import FrameSchedule
from service.infrastructure.workers.job_loading import TrainingError, prepare, restore

BURST_SECONDS: Final = 0.05
"""Approximate training time between two checks for requests and reports."""
REPORT_SECONDS: Final = 0.15
SNAPSHOT_SECONDS: Final = 0.25
LONG_EPOCH_SECONDS: Final = 0.2
"""Longer epochs may not end within the time that a cancelled worker is given."""

CHECKPOINT_SECONDS: Final = (1.0, 10.0)
"""Minimum and maximum interval between checkpoints."""
BYTES_PER_CHECKPOINT_SECOND: Final = 8 << 20
"""Larger states are saved less often, within the bounds of `CHECKPOINT_SECONDS`."""

COLUMNS: Final = tuple(Epoch._fields)


def run(
    task: TrainingTask,
    stop_requested: Callable[[], bool],
    checkpoint_requested: threading.Event,
) -> Iterator[Report]:
    """Train, yielding reports for the server.

    Raises
    ------
    TrainingError
        If training diverges, or a blob that it needs is missing or damaged.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # non-finite values are checked explicitly
        session = _Session(task)
    yield session.started()
    while session.trainer.progress.stop_reason is None:
        yield from session.burst()
        if session.trainer.progress.stop_reason is None and session.out_of_time():
            session.trainer.progress.stop_reason = "time_limit"
        if stop_requested() and session.trainer.progress.stop_reason is None:
            yield from session.report()
            yield session.checkpoint()
            yield TrainingStoppedReport()
            return
        if checkpoint_requested.is_set() or session.needs_checkpoint():
            checkpoint_requested.clear()
            yield from session.report()
            yield session.checkpoint()
    yield from session.report()
    yield session.result()


class _Session:
    """A trainer with its timers and its unreported epochs."""

    def __init__(self, task: TrainingTask) -> None:
        self._limits = task.training["limits"]
        self.network, self.preprocessing, training, validation = prepare(task)
        config = training_config_from(task.training)
        try:
            self.trainer = Trainer(self.network, training, config, validation)
        except EngineError as error:
            raise TrainingError("error", "training_refused", str(error)) from error
        self._corrupt_checkpoints = restore(self.trainer, task.checkpoints)
        self._config = config
        now = time.monotonic()
        self._started_at, self._earlier_seconds = now, task.elapsed_seconds
        self._reported_at = self._snapshot_at = self._saved_at = now
        self._seconds_per_epoch = 0.0
        self._unreported: list[Epoch] = []
        self._last: Epoch | None = None
        boundary = task.training.get("boundary")
        self._frames = None if boundary is None else FrameSchedule(boundary, config.epochs)
        self._saved_epoch = self.trainer.progress.epoch

    def started(self) -> TrainingStartedReport:
        """Return the report of the start of the attempt."""
        training, validation = self.trainer.training, self.trainer.validation
        validation_rows = 0 if validation is None else len(validation.inputs)
        epoch = self.trainer.progress.epoch
        return TrainingStartedReport(
            epoch, len(training.inputs), validation_rows, self._corrupt_checkpoints
        )

    def burst(self) -> Iterator[Report]:
        """Train for about `BURST_SECONDS`."""
        before = time.monotonic()
        epochs = (
            max(1, int(BURST_SECONDS / self._seconds_per_epoch)) if self._seconds_per_epoch else 1
        )
        if self._frames is not None:
            epochs = min(epochs, self._frames.epochs_until_next(self.trainer.progress.epoch))
        try:
            done = self.trainer.advance(epochs)
        except DivergedError as error:
            yield from self.report()
            if self._last is not None:
                yield self.checkpoint()  # the last finite weights, for a client to promote
            raise TrainingError("diverged", "diverged", str(error)) from error
        now = time.monotonic()
        self._seconds_per_epoch = (now - before) / max(len(done), 1)
        self._unreported += done
        if done:
            self._last = done[-1]
        if now - self._reported_at >= REPORT_SECONDS or self._needs_frame():
            yield from self.report()
        if now - self._snapshot_at >= SNAPSHOT_SECONDS:
            self._snapshot_at = now
            yield SnapshotReport(
                self.trainer.progress.epoch,
                self.network.to_bytes(),
                self.preprocessing.config(),
            )

    def report(self) -> Iterator[Report]:
        """Yield a report of the epochs since the last one, if there are any."""
        if self._unreported:
            columns = {
                name: list(values)
                for name, values in zip(COLUMNS, zip(*self._unreported, strict=True), strict=True)
            }
            self._unreported.clear()
            self._reported_at = time.monotonic()
            frame = None
            if self._frames is not None and self._needs_frame():
                epoch = self.trainer.progress.epoch
                frame = self._frames.frame(self.network, self.preprocessing, epoch)
            yield EpochsReport(columns, self._progress(), frame)

    def _needs_frame(self) -> bool:
        """Return True if the last epoch has a boundary frame."""
        state = self.trainer.progress
        if self._frames is None:
            return False
        return self._frames.includes(state.epoch) or state.stop_reason is not None

    def _progress(self) -> Progress:
        """Return the progress after the last epoch."""
        state, config, last = self.trainer.progress, self._config, self._last
        assert last is not None  # noqa: S101 - only called after an epoch
        left = max(config.epochs - state.epoch, 0)
        stopping = config.early_stopping
        patience = None if stopping is None else stopping.patience - state.epochs_waited
        return Progress(
            epoch=state.epoch,
            epochs=config.epochs,
            train_loss=last.train_loss,
            validation_loss=last.validation_loss,
            train_accuracy=last.train_accuracy,
            validation_accuracy=last.validation_accuracy,
            learning_rate=last.learning_rate,
            gradient_norm=last.gradient_norm,
            epochs_per_second=1.0 / self._seconds_per_epoch if self._seconds_per_epoch else None,
            eta_seconds=0.0 if state.stop_reason else left * self._seconds_per_epoch,
            elapsed_seconds=self._elapsed(),
            best_epoch=state.best_epoch,
            patience_left=patience,
        )

    def _elapsed(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._started_at

    def out_of_time(self) -> bool:
        """Return True if the time limit is reached."""
        seconds = self._limits.get("seconds")
        return seconds is not None and self._elapsed() >= seconds

    def needs_checkpoint(self) -> bool:
        """Return True if the checkpoint interval has passed and an epoch has ended since."""
        minimum, maximum = CHECKPOINT_SECONDS
        if self._seconds_per_epoch > LONG_EPOCH_SECONDS:
            # The next epoch may not end before a cancelled worker is killed: save early.
            maximum = minimum if self._saved_epoch else 0.0
        interval = self.network.parameters.nbytes * 4 / BYTES_PER_CHECKPOINT_SECOND
        elapsed = time.monotonic() - self._saved_at >= min(max(interval, minimum), maximum)
        return elapsed and self.trainer.progress.epoch > self._saved_epoch

    def checkpoint(self) -> CheckpointReport:
        """Return the report of a checkpoint with the complete state of the trainer."""
        self._saved_at = time.monotonic()
        self._saved_epoch = self.trainer.progress.epoch
        last = self._last
        return CheckpointReport(
            self.trainer.progress.epoch,
            self.trainer.state(),
            last and last.train_loss,
            last and last.validation_loss,
            self.trainer.progress.best_epoch or None,
            self.preprocessing.config(),
        )

    def result(self) -> TrainingFinishedReport:
        """Return the report of the final weights and their metrics."""
        progress = self.trainer.progress
        self.network.parameters[:] = self.trainer.result()
        metrics: dict[str, Any] = {"epochs": progress.epoch, "best_epoch": progress.best_epoch}
        for name, rows in (
            ("train", self.trainer.training),
            ("validation", self.trainer.validation),
        ):
            if rows is not None:
                outputs = self.network.forward(rows.inputs)
                loss = self._config.loss.value(outputs, rows.targets)
                if not math.isfinite(loss):
                    detail = f"the {name} loss after epoch {progress.epoch} is not finite"
                    raise TrainingError("diverged", "diverged", detail)
                metrics[f"{name}_loss"] = loss
                if rows.targets.ndim == 1:
                    correct = class_indices(outputs) == rows.targets
                    metrics[f"{name}_accuracy"] = float(np.mean(correct))
        return TrainingFinishedReport(
            progress.stop_reason or "epochs_done",
            self.network.to_bytes(),
            self.preprocessing.config(),
            metrics,
        )
