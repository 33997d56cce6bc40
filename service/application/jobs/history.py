"""The epochs of a job as columns, thinned out where there are too many to draw."""

from collections.abc import Mapping
from typing import Any, Final

from service.domain.jobs import EventBatch

HISTORY: Final = (
    "train_loss",
    "validation_loss",
    "train_accuracy",
    "validation_accuracy",
    "learning_rate",
    "gradient_norm",
)


def columns_of(batches: list[EventBatch], max_points: int, after_epoch: int) -> dict[str, Any]:
    """Return columns over all epochs after one, at most ``max_points`` long."""
    columns: dict[str, list[Any]] = {"epoch": [], **{name: [] for name in HISTORY}}
    for batch in batches:
        for name, values in columns.items():
            values.extend(batch.data[name])
    total = columns["epoch"][-1] if columns["epoch"] else 0
    if after_epoch:
        kept = [index for index, epoch in enumerate(columns["epoch"]) if epoch > after_epoch]
        columns = {name: [values[index] for index in kept] for name, values in columns.items()}
    count = len(columns["epoch"])
    sampled = count > max_points
    if sampled:
        kept = downsample(columns, max_points)
        columns = {name: [values[index] for index in kept] for name, values in columns.items()}
    hidden = count - len(columns["epoch"])
    return {**columns, "total_epochs": total, "sampled": sampled, "hidden_epochs": hidden}


def downsample(columns: Mapping[str, list[Any]], most: int) -> list[int]:
    """Return at most ``most`` indices: last, first, the extremes of every column, even steps.

    Even steps would miss a spike; so the extremes come first, and even steps fill up. Where there
    is room for few, what stands first in `HISTORY` has it.
    """
    count = len(columns["epoch"])
    wanted = [count - 1, 0]
    for name in HISTORY:
        values = columns[name]
        known = [index for index in range(count) if values[index] is not None]
        if known:
            wanted += [min(known, key=values.__getitem__), max(known, key=values.__getitem__)]
    kept = set(list(dict.fromkeys(wanted))[:most])
    room = most - len(kept)
    kept |= {round(step * (count - 1) / (room + 1)) for step in range(1, room + 1)}
    return sorted(kept)
