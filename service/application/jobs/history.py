"""Epochs of a job as columns, downsampled if there are too many to plot."""

from collections.abc import Mapping
from typing import Any, Final

from service.domain.jobs import EventBatch

METRICS: Final = (
    "train_loss",
    "validation_loss",
    "train_accuracy",
    "validation_accuracy",
    "learning_rate",
    "gradient_norm",
)


def columns_of(batches: list[EventBatch], max_points: int, after_epoch: int) -> dict[str, Any]:
    """Return columns over the epochs after ``after_epoch``, at most ``max_points`` long."""
    columns: dict[str, list[Any]] = {"epoch": [], **{name: [] for name in METRICS}}
    for batch in batches:
        for name, values in columns.items():
            values.extend(batch.data[name])
    total = columns["epoch"][-1] if columns["epoch"] else 0
    if after_epoch:
        indices = [index for index, epoch in enumerate(columns["epoch"]) if epoch > after_epoch]
        columns = {name: [values[index] for index in indices] for name, values in columns.items()}
    count = len(columns["epoch"])
    sampled = count > max_points
    if sampled:
        indices = downsample(columns, max_points)
        columns = {name: [values[index] for index in indices] for name, values in columns.items()}
    hidden = count - len(columns["epoch"])
    return {**columns, "total_epochs": total, "sampled": sampled, "hidden_epochs": hidden}


def downsample(columns: Mapping[str, list[Any]], limit: int) -> list[int]:
    """Return at most ``limit`` indices: last, first, the extremes of every column, even steps.

    Even steps alone would miss spikes. Therefore extremes come first and even steps fill the rest.
    If ``limit`` is too small for all extremes, earlier columns of `METRICS` take precedence.
    """
    count = len(columns["epoch"])
    candidates = [count - 1, 0]
    for name in METRICS:
        values = columns[name]
        known = [index for index in range(count) if values[index] is not None]
        if known:
            candidates += [min(known, key=values.__getitem__), max(known, key=values.__getitem__)]
    indices = set(list(dict.fromkeys(candidates))[:limit])
    remaining = limit - len(indices)
    indices |= {round(step * (count - 1) / (remaining + 1)) for step in range(1, remaining + 1)}
    return sorted(indices)
