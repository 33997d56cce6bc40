"""Epochs of a job as columns, downsampled if there are too many to plot."""

from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, final

import numpy as np

from core.arrays import Array
from service.application.ports.database import UnitOfWork

METRICS: Final = (
    "train_loss",
    "validation_loss",
    "train_accuracy",
    "validation_accuracy",
    "learning_rate",
    "gradient_norm",
)
EPOCH_BATCHES: Final = 20
"""Batches of epochs that are read at once; a batch has the epochs of a sixth of a second."""

NONE: Final = float("nan")
"""Stands for a missing value; a metric is never NaN."""


async def epoch_columns(
    work: UnitOfWork, job_id: str
) -> AsyncIterator[Mapping[str, Sequence[Any]]]:
    """Yield the epochs of a job as columns, batch by batch."""
    after = 0
    while batches := await work.job_events.epochs(job_id, after, EPOCH_BATCHES):
        after = batches[-1].last_id
        for batch in batches:
            yield batch.data


@final
class History:
    """The epochs of a job, collected batch by batch in eight bytes per value.

    Parameters
    ----------
    after_epoch
        Earlier epochs, and this one, are left out.
    """

    def __init__(self, after_epoch: int) -> None:
        self._after_epoch, self._total = after_epoch, 0
        self._columns = {name: array("d") for name in ("epoch", *METRICS)}

    def add(self, columns: Mapping[str, Sequence[float | None]]) -> None:
        """Append the epochs of a batch, which follow those of the batches before."""
        epochs = columns["epoch"]
        start = sum(1 for epoch in epochs if epoch is not None and epoch <= self._after_epoch)
        self._total = int(epochs[-1] or 0)
        for name, values in self._columns.items():
            values.extend(NONE if value is None else value for value in columns[name][start:])

    def sampled(self, max_points: int) -> dict[str, Any]:
        """Return the columns, at most ``max_points`` long."""
        columns = {name: np.frombuffer(values) for name, values in self._columns.items()}
        count = len(columns["epoch"])
        if count > max_points:
            indices = downsample(columns, max_points)
            columns = {name: values[indices] for name, values in columns.items()}
        result: dict[str, Any] = {name: _listed(values) for name, values in columns.items()}
        result["epoch"] = columns["epoch"].astype(np.int64).tolist()
        hidden = count - len(result["epoch"])
        return {
            **result,
            "total_epochs": self._total,
            "sampled": count > max_points,
            "hidden_epochs": hidden,
        }


def _listed(values: Array) -> list[float | None]:
    """Return the values, with None for what is missing."""
    return [None if value != value else value for value in values.tolist()]


def downsample(columns: Mapping[str, Array], limit: int) -> list[int]:
    """Return at most ``limit`` indices: last, first, the extremes of every column, even steps.

    Even steps alone would miss spikes. Therefore extremes come first and even steps fill the rest.
    If ``limit`` is too small for all extremes, earlier columns of `METRICS` take precedence.
    """
    count = len(columns["epoch"])
    candidates = [count - 1, 0]
    for name in METRICS:
        known = np.flatnonzero(~np.isnan(columns[name]))
        if len(known):
            values = columns[name][known]
            candidates += [int(known[values.argmin()]), int(known[values.argmax()])]
    indices = set(list(dict.fromkeys(candidates))[:limit])
    remaining = limit - len(indices)
    indices |= {round(step * (count - 1) / (remaining + 1)) for step in range(1, remaining + 1)}
    return sorted(indices)
