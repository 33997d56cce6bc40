"""A job's states and the moves between them: one table, nothing else decides.

::

    queued -> starting -> running -> succeeded | failed
    running | starting -> pausing -> paused -> queued
    queued | paused -> cancelled
    running | starting | pausing -> cancelling -> cancelled
    a lost worker or a restart: back to queued, or to paused or cancelled where that was asked for

Why a job ended, or stands still, is a second field, its stop reason.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from service.domain.errors import InvalidTransitionError


class Status(StrEnum):
    """Where a job is."""

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
    """What a client may ask of a job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


class StopReason(StrEnum):
    """Why a job ended."""

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
"""The legal moves."""

TERMINAL: Final = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
LEASED: Final = frozenset({_S.STARTING, _S.RUNNING, _S.PAUSING, _S.CANCELLING})
"""States in which a worker has the job, under a lease."""
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
"""Where a request takes a job from each state; staying put repeats what already holds."""

ON_WORKER_LOSS: Final = {
    _S.STARTING: _S.QUEUED,
    _S.RUNNING: _S.QUEUED,
    _S.PAUSING: _S.PAUSED,
    _S.CANCELLING: _S.CANCELLED,
}
"""Where a job goes when its worker is gone and attempts are left."""


def requested(action: Action, status: Status) -> Status:
    """Return where ``action`` takes a job that is ``status``.

    Raises
    ------
    IllegalMove
        When it takes it nowhere.
    """
    try:
        return REQUESTS[action][status]
    except KeyError:
        raise InvalidTransitionError(action, status, allowed_actions(status)) from None


def allowed_actions(status: Status) -> list[str]:
    """Return the actions that change something."""
    return [action for action, targets in REQUESTS.items() if targets.get(status, status) != status]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is; the losses are None before the first epoch."""

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
    """A training, as it is remembered.

    Attributes
    ----------
    attempt
        Counted from 1; a lost worker and a lost server add to it.
    losses
        Counts the workers that were lost; after three the job fails.
    run
        Counts the starts; with the status it fences off a worker that was thought dead.
    fingerprint
        Digest of what is trained on what and how, to know equal work.
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

    @property
    def terminal(self) -> bool:
        """Whether nothing will ever change any more."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved state of a job's training at the end of an epoch."""

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


@dataclass(frozen=True, slots=True)
class EventBatch:
    """A run of events in a job's log.

    Attributes
    ----------
    first_id, last_id
        Ids of the first and the last event; only epochs come several at a time.
    data
        What happened; of epochs, columns of equal length.
    """

    job_id: str
    first_id: int
    last_id: int
    type: str
    data: dict[str, Any]

    @property
    def events(self) -> int:
        """How many there are."""
        return self.last_id - self.first_id + 1


def merged(batch: EventBatch, after: int) -> EventBatch:
    """Return a run of epochs as its last one, which says for how many later than ``after``."""
    if batch.type != "epoch":
        return batch
    last = {name: values[-1:] for name, values in batch.data.items()}
    count = batch.last_id - max(batch.first_id - 1, after)
    return EventBatch(
        batch.job_id, batch.last_id, batch.last_id, "epoch", last | {"merged": [count]}
    )
