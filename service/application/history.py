"""The epochs of a job as columns, thinned out where there are too many to draw."""

from collections.abc import Mapping
from typing import Any, Final

from service.domain.jobs import Record

HISTORY: Final = (
    "train_loss",
    "validation_loss",
    "train_accuracy",
    "validation_accuracy",
    "learning_rate",
    "gradient_norm",
)


def columns_of(records: list[Record], max_points: int, after_epoch: int) -> dict[str, Any]:
    """Return columns over all epochs after one, at most ``max_points`` long."""
    columns: dict[str, list[Any]] = {"epoch": [], **{name: [] for name in HISTORY}}
    for record in records:
        for name, values in columns.items():
            values.extend(record.data[name])
    total = columns["epoch"][-1] if columns["epoch"] else 0
    if after_epoch:
        kept = [index for index, epoch in enumerate(columns["epoch"]) if epoch > after_epoch]
        columns = {name: [values[index] for index in kept] for name, values in columns.items()}
    count = len(columns["epoch"])
    sampled = count > max_points
    if sampled:
        kept = thinned(columns, max_points)
        columns = {name: [values[index] for index in kept] for name, values in columns.items()}
    hidden = count - len(columns["epoch"])
    return {**columns, "total_epochs": total, "sampled": sampled, "hidden_epochs": hidden}


def thinned(columns: Mapping[str, list[Any]], most: int) -> list[int]:
    """Return about ``most`` indices, with first, last and the extremes of every column.

    Even steps would miss a spike; so the extremes come first, and even steps fill up. There are
    at most fourteen that are always kept, also where ``most`` is less.
    """
    count = len(columns["epoch"])
    kept = {0, count - 1}
    for name in HISTORY:
        values = columns[name]
        known = [index for index in range(count) if values[index] is not None]
        if known:
            kept |= {min(known, key=values.__getitem__), max(known, key=values.__getitem__)}
    room = most - len(kept)
    for index in range(max(room, 0)):
        kept.add(round(index * (count - 1) / max(room - 1, 1)))
    return sorted(kept)
