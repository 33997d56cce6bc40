"""Retention periods, quotas and stored bytes."""

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Final


@dataclass(frozen=True, slots=True)
class Retention:
    """Times after which data is deleted; None means never.

    Attributes
    ----------
    checkpoints
        Automatic checkpoints, after the end of their job; 0 deletes them when the job ends. The
        last checkpoint of a job that was cancelled or failed is retained for `UNFINISHED` at least.
    events
        Epochs and messages of ended jobs.
    boundary_frames
        Boundary frames of ended jobs.
    jobs
        Ended jobs.
    inline_datasets
        Rows that were sent with a job which no longer exists.
    demos
        Networks and jobs of demonstrations.
    """

    checkpoints: timedelta | None = timedelta(0)
    events: timedelta | None = None
    boundary_frames: timedelta | None = timedelta(days=7)
    jobs: timedelta | None = None
    inline_datasets: timedelta | None = timedelta(days=1)
    demos: timedelta | None = timedelta(days=7)


UNFINISHED: Final = timedelta(days=7)
"""Minimum retention of the last checkpoint of a job that was cancelled or failed."""

DEFAULT_RETENTION: Final = Retention()


@dataclass(frozen=True, slots=True)
class Quotas:
    """Quotas of a tenant. None means no limit.

    Attributes
    ----------
    bytes
        Bytes of weights, datasets and checkpoints.
    running_jobs
        Jobs that run at the same time.
    """

    bytes: int | None = None
    networks: int | None = None
    datasets: int | None = None
    running_jobs: int | None = None


QUOTA_NAMES: Final = tuple(field.name for field in fields(Quotas))


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of a tenant, or of all tenants together.

    Attributes
    ----------
    weights, rows, checkpoints
        Bytes of versions, of datasets and of checkpoints.
    """

    networks: int = 0
    datasets: int = 0
    weights: int = 0
    rows: int = 0
    checkpoints: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of everything."""
        return self.weights + self.rows + self.checkpoints
