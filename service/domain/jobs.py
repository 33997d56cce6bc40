"""Jobs: their states and the table of transitions between them.

::

    queued -> starting -> running -> succeeded | failed
    running | starting -> pausing -> paused -> queued
    queued | paused -> cancelled
    running | starting | pausing -> cancelling -> cancelled
    lost worker or restart: back to queued, or to paused or cancelled if that was requested

The reason why a job ended or paused is in a separate field, ``stop_reason``.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from service.domain.errors import InvalidTransitionError


class Status(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Action(StrEnum):
    """A state change that a client can request."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


class StopReason(StrEnum):
    """Why a job ended or paused."""

    EPOCHS_DONE = "epochs_done"
    EARLY_STOPPED = "early_stopped"
    TARGET_REACHED = "target_reached"
    TIME_LIMIT = "time_limit"
    USER = "user"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    OUT_OF_MEMORY = "out_of_memory"
    ERROR = "error"


_S = Status
TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    _S.QUEUED: frozenset({_S.STARTING, _S.PAUSED, _S.CANCELLED, _S.FAILED}),
    _S.STARTING: frozenset({_S.RUNNING, _S.PAUSING, _S.CANCELLING, _S.FAILED, _S.QUEUED}),
    _S.RUNNING: frozenset({_S.SUCCEEDED, _S.FAILED, _S.PAUSING, _S.CANCELLING, _S.QUEUED}),
    _S.PAUSING: frozenset({_S.PAUSED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLING}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.CANCELLED: frozenset(),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
}
"""The states that can follow each state."""

TERMINAL: Final = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
LEASED: Final = frozenset({_S.STARTING, _S.RUNNING, _S.PAUSING, _S.CANCELLING})
"""States in which a server leases the job and a worker runs it."""
ACTIVE: Final = frozenset(Status) - TERMINAL

REQUESTS: Final[dict[Action, dict[Status, Status]]] = {
    Action.PAUSE: {
        _S.QUEUED: _S.PAUSED,
        _S.STARTING: _S.PAUSING,
        _S.RUNNING: _S.PAUSING,
        _S.PAUSING: _S.PAUSING,
        _S.PAUSED: _S.PAUSED,
    },
    Action.RESUME: {
        _S.PAUSED: _S.QUEUED,
        _S.QUEUED: _S.QUEUED,
        _S.STARTING: _S.STARTING,
        _S.RUNNING: _S.RUNNING,
    },
    Action.CANCEL: {
        _S.QUEUED: _S.CANCELLED,
        _S.PAUSED: _S.CANCELLED,
        _S.STARTING: _S.CANCELLING,
        _S.RUNNING: _S.CANCELLING,
        _S.PAUSING: _S.CANCELLING,
        _S.CANCELLING: _S.CANCELLING,
        _S.CANCELLED: _S.CANCELLED,
    },
}
"""The state that each action leads to; an action that was already applied changes nothing."""

ON_WORKER_LOSS: Final = {
    _S.STARTING: _S.QUEUED,
    _S.RUNNING: _S.QUEUED,
    _S.PAUSING: _S.PAUSED,
    _S.CANCELLING: _S.CANCELLED,
}
"""The state after a worker was lost, while the job may still be retried."""


def requested(action: Action, status: Status) -> Status:
    """Return the state that ``action`` leads to from ``status``.

    Raises
    ------
    InvalidTransitionError
        If ``status`` does not allow the action.
    """
    try:
        return REQUESTS[action][status]
    except KeyError:
        raise InvalidTransitionError(action, status, allowed_actions(status)) from None


def allowed_actions(status: Status) -> list[str]:
    """Return the actions that change ``status``."""
    return [action for action, targets in REQUESTS.items() if targets.get(status, status) != status]


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job; losses and metrics are None before the first epoch."""

    epoch: int = 0
    epochs: int = 0
    train_loss: float | None = None
    validation_loss: float | None = None
    train_accuracy: float | None = None
    validation_accuracy: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    epochs_per_second: float | None = None
    eta_seconds: float | None = None
    elapsed_seconds: float = 0.0
    best_epoch: int | None = None
    patience_left: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """The stored record of a training job.

    Attributes
    ----------
    attempt
        Number of starts. Together with the status it is a fencing token: a report of a worker
        that was given up is rejected.
    worker_crashes
        Number of lost workers; the job fails when it reaches ``Limits.attempts``.
    base_version
        The version that training starts from. Until the job starts for the first time, the latest
        version at its creation.
    split_version
        Version of the split into training and validation rows; None before the split had versions.
    demo
        True for the job of a demonstration, which retention deletes.
    fingerprint
        Digest of network, base version, dataset and training config, to find duplicate jobs.
    """

    id: str
    tenant: str
    network_id: str
    network_name: str
    dataset_id: str
    dataset_name: str
    status: Status
    base_version: int
    training: dict[str, Any]
    created_at: datetime
    fingerprint: str = ""
    attempt: int = 0
    worker_crashes: int = 0
    stop_reason: str | None = None
    result_version: int | None = None
    progress: Progress = field(default_factory=Progress)
    error: dict[str, Any] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    last_event: int = 0
    lease_owner: str | None = None
    split_version: int | None = None
    demo: bool = False

    @property
    def terminal(self) -> bool:
        """True if the job has ended."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The stored record of a training state, saved at the end of an epoch.

    Attributes
    ----------
    requested
        True if a client requested the checkpoint.
    split_version
        As in `Job`.
    """

    id: str
    job_id: str
    epoch: int
    blob: str
    created_at: datetime
    train_loss: float | None = None
    validation_loss: float | None = None
    best_epoch: int | None = None
    preprocessing: dict[str, Any] | None = None
    requested: bool = False
    split_version: int | None = None


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Consecutive events of one type in the log of a job.

    Attributes
    ----------
    first_id, last_id
        Ids of the first and the last event; only ``epoch`` batches have more than one event.
    data
        The event; for epochs, columns of equal length with one value per epoch.
    """

    job_id: str
    first_id: int
    last_id: int
    type: str
    data: dict[str, Any]

    @property
    def events(self) -> int:
        """Number of events."""
        return self.last_id - self.first_id + 1


def merged(batch: EventBatch, after: int) -> EventBatch:
    """Return epochs as a single event: the last one, with the number of events after ``after``."""
    if batch.type != "epoch":
        return batch
    last = {name: values[-1:] for name, values in batch.data.items()}
    count = batch.last_id - max(batch.first_id - 1, after)
    return EventBatch(
        batch.job_id, batch.last_id, batch.last_id, "epoch", last | {"merged": [count]}
    )
