"""One attempt at a job, from its assignment to its result."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from core.errors import DivergedError, EngineError
from core.metrics import class_indices
from core.training import Epoch, Trainer
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
"""About how long the worker trains before it looks up."""
REPORT_SECONDS: Final = 0.15
SNAPSHOT_SECONDS: Final = 0.25
LONG_EPOCH_SECONDS: Final = 0.2
"""An epoch that takes longer may outlast the time that a cancelled worker has."""

CHECKPOINT_SECONDS: Final = (1.0, 10.0)
BYTES_PER_CHECKPOINT_SECOND: Final = 8 << 20
"""A larger state is saved less often, within the bounds above."""

COLUMNS: Final = tuple(Epoch._fields)


def run(
    task: TrainingTask,
    stop_asked: Callable[[], bool],
    checkpoint_asked: threading.Event,
) -> Iterator[Report]:
    """Train, yielding what the server should know.

    Raises
    ------
    Refused
        When training diverged, or something it needs is gone or damaged.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # looked for where it matters
        session = _Session(task)
    yield session.started()
    while session.trainer.progress.stop_reason is None:
        yield from session.burst()
        if session.trainer.progress.stop_reason is None and session.out_of_time():
            session.trainer.progress.stop_reason = "time_limit"
        if stop_asked() and session.trainer.progress.stop_reason is None:
            yield from session.report()
            yield session.checkpoint()
            yield TrainingStoppedReport()
            return
        if checkpoint_asked.is_set() or session.checkpoint_due():
            checkpoint_asked.clear()
            yield from session.report()
            yield session.checkpoint()
    yield from session.report()
    yield session.result()


class _Session:
    """A trainer with its clock and what it has not reported yet."""

    def __init__(self, task: TrainingTask) -> None:
        self._limits = task.training["limits"]
        self.network, self.preprocessing, training, validation = prepare(task)
        config = training_config_from(task.training)
        try:
            self.trainer = Trainer(self.network, training, config, validation)
        except EngineError as error:
            raise TrainingError("error", "training_refused", str(error)) from error
        self._damaged = restore(self.trainer, task.checkpoints)
        self._plan = config
        now = time.monotonic()
        self._begun, self._earlier = now, task.elapsed_seconds
        self._reported = self._snapped = self._saved = now
        self._pace = 0.0
        self._unreported: list[Epoch] = []
        self._last: Epoch | None = None
        boundary = task.training.get("boundary")
        self._frames = None if boundary is None else FrameSchedule(boundary, config.epochs)
        self._saved_epoch = self.trainer.progress.epoch

    def started(self) -> TrainingStartedReport:
        """Return where the training begins, and with what."""
        training, validation = self.trainer.training, self.trainer.validation
        held_out = 0 if validation is None else len(validation.inputs)
        epoch = self.trainer.progress.epoch
        return TrainingStartedReport(epoch, len(training.inputs), held_out, self._damaged)

    def burst(self) -> Iterator[Report]:
        """Train for a moment."""
        before = time.monotonic()
        epochs = max(1, int(BURST_SECONDS / self._pace)) if self._pace else 1
        if self._frames is not None:
            epochs = min(epochs, self._frames.epochs_until_next(self.trainer.progress.epoch))
        try:
            done = self.trainer.advance(epochs)
        except DivergedError as error:
            yield from self.report()
            if self._last is not None:
                yield self.checkpoint()  # the last finite weights, to be promoted on request
            raise TrainingError("diverged", "diverged", str(error)) from error
        now = time.monotonic()
        self._pace = (now - before) / max(len(done), 1)
        self._unreported += done
        if done:
            self._last = done[-1]
        if now - self._reported >= REPORT_SECONDS or self._frame_is_due():
            yield from self.report()
        if now - self._snapped >= SNAPSHOT_SECONDS:
            self._snapped = now
            yield SnapshotReport(
                self.trainer.progress.epoch,
                self.network.to_bytes(),
                self.preprocessing.to_document(),
            )

    def report(self) -> Iterator[Report]:
        """Tell of the epochs that were not told of yet."""
        if self._unreported:
            columns = {
                name: list(values)
                for name, values in zip(COLUMNS, zip(*self._unreported, strict=True), strict=True)
            }
            self._unreported.clear()
            self._reported = time.monotonic()
            frame = None
            if self._frames is not None and self._frame_is_due():
                epoch = self.trainer.progress.epoch
                frame = self._frames.frame(self.network, self.preprocessing, epoch)
            yield EpochsReport(columns, self._progress(), frame)

    def _frame_is_due(self) -> bool:
        """Tell whether the epoch that ended last is one of the film's."""
        state = self.trainer.progress
        if self._frames is None:
            return False
        return self._frames.includes(state.epoch) or state.stop_reason is not None

    def _progress(self) -> Progress:
        """Return how far the training is."""
        state, config, last = self.trainer.progress, self._plan, self._last
        assert last is not None  # noqa: S101 - only asked for after an epoch
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
            epochs_per_second=1.0 / self._pace if self._pace else None,
            eta_seconds=0.0 if state.stop_reason else left * self._pace,
            elapsed_seconds=self._elapsed(),
            best_epoch=state.best_epoch,
            patience_left=patience,
        )

    def _elapsed(self) -> float:
        return self._earlier + time.monotonic() - self._begun

    def out_of_time(self) -> bool:
        """Tell whether the time limit is reached."""
        seconds = self._limits.get("seconds")
        return seconds is not None and self._elapsed() >= seconds

    def checkpoint_due(self) -> bool:
        """Tell whether enough time has passed, and an epoch ended since."""
        least, most = CHECKPOINT_SECONDS
        if self._pace > LONG_EPOCH_SECONDS:
            # A cancel would not wait for the end of the next: what is best so far must be there.
            most = least if self._saved_epoch else 0.0
        wait = self.network.parameters.nbytes * 4 / BYTES_PER_CHECKPOINT_SECOND
        due = time.monotonic() - self._saved >= min(max(wait, least), most)
        return due and self.trainer.progress.epoch > self._saved_epoch

    def checkpoint(self) -> CheckpointReport:
        """Return the whole state."""
        self._saved = time.monotonic()
        self._saved_epoch = self.trainer.progress.epoch
        last = self._last
        return CheckpointReport(
            self.trainer.progress.epoch,
            self.trainer.state(),
            last and last.train_loss,
            last and last.validation_loss,
            self.trainer.progress.best_epoch or None,
            self.preprocessing.to_document(),
        )

    def result(self) -> TrainingFinishedReport:
        """Return the weights that the training was for, and how good they are."""
        progress = self.trainer.progress
        self.network.parameters[:] = self.trainer.result()
        metrics: dict[str, Any] = {"epochs": progress.epoch, "best_epoch": progress.best_epoch}
        for name, rows in (
            ("train", self.trainer.training),
            ("validation", self.trainer.validation),
        ):
            if rows is not None:
                outputs = self.network.forward(rows.inputs)
                loss = self._plan.loss.value(outputs, rows.targets)
                if not math.isfinite(loss):
                    detail = f"the {name} loss after epoch {progress.epoch} is not finite"
                    raise TrainingError("diverged", "diverged", detail)
                metrics[f"{name}_loss"] = loss
                if rows.targets.ndim == 1:
                    hits = class_indices(outputs) == rows.targets
                    metrics[f"{name}_accuracy"] = float(np.mean(hits))
        return TrainingFinishedReport(
            progress.stop_reason or "epochs_done",
            self.network.to_bytes(),
            self.preprocessing.to_document(),
            metrics,
        )
