"""The protocol between server and workers: tasks, reports, attempts and the executor."""

from dataclasses import dataclass
from typing import Any

from service.domain.jobs import Progress


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """The input of a worker for one attempt at a job.

    Attributes
    ----------
    config
        The network's architecture.
    training
        The complete training config.
    weights
        Path of the base version's parameters.
    preprocessing
        The base version's preprocessing.
    dataset
        Path of the rows.
    dataset_sha256, weights_sha256
        The expected digests of these files.
    classes
        ``classes[i]`` is the network's class for the dataset's label i; None for regression.
    columns
        The dataset's column for each input of the network; None if they are in the same order.
    checkpoints
        Paths of the states that training can resume from, with their digests, latest first.
    elapsed_seconds
        Training time of earlier attempts.
    """

    job_id: str
    attempt: int
    config: dict[str, Any]
    training: dict[str, Any]
    weights: str
    weights_sha256: str
    preprocessing: dict[str, Any] | None
    dataset: str
    dataset_sha256: str
    classes: list[int] | None
    checkpoints: list[tuple[str, str]]
    elapsed_seconds: float = 0.0
    columns: list[int] | None = None


@dataclass(frozen=True, slots=True)
class TrainingStartedReport:
    """The worker has built the network and starts to train.

    Attributes
    ----------
    epoch
        Epochs of earlier attempts, after which training resumes.
    training_rows, validation_rows
        Number of rows to train on and to validate on.
    corrupt_checkpoints
        Number of corrupt checkpoints that are newer than the one that training resumes from.
    """

    epoch: int
    training_rows: int
    validation_rows: int
    corrupt_checkpoints: int = 0


@dataclass(frozen=True, slots=True)
class EpochsReport:
    """Completed epochs as columns of equal length, and the progress after the last one.

    Attributes
    ----------
    frame
        The boundary frame after the last epoch, if one was requested.
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
    """A state that training can resume from."""

    epoch: int
    state: bytes
    train_loss: float | None
    validation_loss: float | None
    best_epoch: int | None
    preprocessing: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class TrainingStoppedReport:
    """The worker stopped on request, after a last checkpoint."""


@dataclass(frozen=True, slots=True)
class TrainingFinishedReport:
    """The training is complete."""

    stop_reason: str
    weights: bytes
    preprocessing: dict[str, Any] | None
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TrainingFailedReport:
    """The training cannot continue, and another attempt would fail too."""

    stop_reason: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class WorkerLostReport:
    """The worker ended without a report: killed, crashed or out of memory."""

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
