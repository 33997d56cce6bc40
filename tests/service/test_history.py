"""The history of a job: its columns, and what reading them costs."""

import tracemalloc
from typing import Any

import pytest

from service.application.jobs.history import METRICS, History


def batch(first: int, count: int) -> dict[str, list[Any]]:
    """Return the columns of some epochs, without validation."""
    epochs = list(range(first, first + count))
    columns: dict[str, list[Any]] = {name: [1.0 / epoch for epoch in epochs] for name in METRICS}
    return {**columns, "epoch": epochs, "validation_loss": [None] * count}


def history_of(*batches: dict[str, list[Any]], after_epoch: int = 0) -> History:
    history = History(after_epoch)
    for columns in batches:
        history.add(columns)
    return history


def test_epochs_after_one_are_returned_across_batches() -> None:
    columns = history_of(batch(1, 5), batch(6, 5), after_epoch=7).sampled(100)

    assert columns["epoch"] == [8, 9, 10]
    assert columns["validation_loss"] == [None] * 3
    assert columns["train_loss"] == [1 / 8, 1 / 9, 1 / 10]
    assert (columns["total_epochs"], columns["sampled"], columns["hidden_epochs"]) == (10, False, 0)


def test_a_long_history_is_sampled_with_its_extremes() -> None:
    spike = batch(1, 1000)
    spike["train_loss"][617] = 99.0

    columns = history_of(spike, batch(1001, 1000)).sampled(50)

    assert len(columns["epoch"]) == 50
    assert {1, 618, 2000} <= set(columns["epoch"])
    assert max(columns["train_loss"]) == 99.0
    assert (columns["sampled"], columns["hidden_epochs"]) == (True, 1950)


def test_a_job_without_epochs_has_an_empty_history() -> None:
    columns = history_of().sampled(10)

    assert columns["epoch"] == columns["train_loss"] == []
    assert columns["total_epochs"] == 0


@pytest.mark.parametrize("batches", [50, 500])
def test_a_value_costs_eight_bytes_until_it_is_returned(batches: int) -> None:
    columns = batch(1, 200)
    tracemalloc.start()
    history = history_of(*[columns] * batches)
    history.sampled(500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 200 * batches * 7 * 20 + 1_000_000
