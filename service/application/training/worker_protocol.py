"""Attempts at jobs: what a worker is given, what it reports, and where attempts run."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

from service.domain.jobs import Progress


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """What a worker needs to know to run a job.

    Attributes
    ----------
    spec
        The network's architecture.
    training
        Every value in force.
    weights
        Where the base version's parameters are.
    preprocessing
        The base version's.
    dataset
        Where the rows are.
    dataset_sha256, weights_sha256
        What they must be.
    classes
        ``classes[i]`` is the network's class of the dataset's label i; None for regression.
    checkpoints
        Where states to go on from are, each with its digest, latest first.
    elapsed_seconds
        What earlier runs took.
    """

    job_id: str
    attempt: int
    spec: dict[str, Any]
    training: dict[str, Any]
    weights: str
    weights_sha256: str
    preprocessing: dict[str, Any] | None
    dataset: str
    dataset_sha256: str
    classes: list[int] | None
    checkpoints: list[tuple[str, str]]
    elapsed_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingStartedReport:
    """The worker has built the network and begins.

    Attributes
    ----------
    epoch
        Epochs of earlier runs, after which it goes on.
    training_rows, validation_rows
        What is learned from, and what is held out.
    damaged
        Checkpoints that could not be gone on from, newer than the one that could.
    """

    epoch: int
    training_rows: int
    validation_rows: int
    corrupt_checkpoints: int = 0


@dataclass(frozen=True, slots=True)
class EpochsReport:
    """Epochs ended: columns of equal length, and the progress after the last.

    Attributes
    ----------
    frame
        What the units say across the plane after the last of them, where it was asked for.
    """

    columns: dict[str, list[Any]]
    progress: Progress
    frame: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """The parameters after an epoch, for the version `live`."""

    epoch: int
    weights: bytes
    preprocessing: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """A state that training can go on from."""

    epoch: int
    state: bytes
    train_loss: float | None
    validation_loss: float | None
    best_epoch: int | None
    preprocessing: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class TrainingStoppedReport:
    """The worker stopped as it was told to, after a last checkpoint."""


@dataclass(frozen=True, slots=True)
class TrainingFinishedReport:
    """The training came to its end."""

    stop_reason: str
    weights: bytes
    preprocessing: dict[str, Any] | None
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TrainingFailedReport:
    """The training cannot go on, and a new attempt would not help."""

    stop_reason: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class WorkerLostReport:
    """The worker is gone without a word: killed, crashed, out of memory."""

    reason: str


PersistedReport = (
    TrainingStartedReport
    | EpochsReport
    | CheckpointReport
    | TrainingStoppedReport
    | TrainingFinishedReport
    | TrainingFailedReport
    | WorkerLostReport
)
Report = PersistedReport | SnapshotReport


class Attempt(Protocol):
    """A job in the hands of a worker."""

    def reports(self) -> AsyncGenerator[Report]:
        """Yield what the worker says; the last is Stopped, Finished, Failed or Lost."""

    def stop(self, *, kill_after: float) -> None:
        """Ask for a last checkpoint and an end; kill after so many seconds, at the earliest asked.

        Asking again changes nothing but that.
        """

    def checkpoint(self) -> None:
        """Ask for a checkpoint now."""


class NoWorkerError(Exception):
    """The worker that was free is gone; another will be."""


class Executor(Protocol):
    """Where attempts run."""

    slots: int

    async def start(self) -> None:
        """Make workers ready."""

    def free(self) -> int:
        """Return how many attempts could begin right now."""

    def alive(self) -> int:
        """Return how many workers there are, those that are starting included."""

    def memory(self) -> int:
        """Return the bytes that all workers hold."""

    async def begin(self, task: TrainingTask) -> Attempt:
        """Hand a job to a worker, or raise NoWorker."""

    async def stop(self) -> None:
        """End all workers."""
