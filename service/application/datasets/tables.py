"""Rows and targets from whatever form they come in, checked before anything is stored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.arrays import Array
from service.domain.datasets import Task
from service.domain.errors import MAX_FIELD_ERRORS, FieldError, InvalidRequestError, pointer
from service.domain.identifiers import check_name
from service.domain.limits import Limits

MAX_INFERRED_CLASSES: Final = 20


@dataclass(frozen=True, slots=True)
class RawTargets:
    """Targets before anyone decided what they are: exactly one field is set."""

    words: list[str] | None = None
    numbers: Array | None = None  # (rows,) or (rows, outputs) float64


@dataclass(frozen=True, slots=True)
class Table:
    """A dataset's rows, checked.

    Attributes
    ----------
    inputs
        (rows, columns) float64.
    targets
        (rows,) int64 class indices, or (rows, outputs) float64.
    """

    inputs: Array
    targets: Array
    columns: list[str]
    labels: list[str] | None

    @property
    def task(self) -> Task:
        """What the targets are for."""
        return "regression" if self.labels is None else "classification"


def build_table(
    inputs: Array,
    targets: RawTargets,
    columns: Sequence[str],
    task: Task | None,
    place: str,
    limits: Limits,
) -> Table:
    """Return the table, its task guessed where nobody told.

    Parameters
    ----------
    place
        Where the targets stand in the request, for messages.

    Raises
    ------
    InvalidRequest
        When the targets cannot be what they are said to be.
    """
    if len(inputs) == 0:
        raise InvalidRequestError.at(place, "empty", "a dataset needs at least one row")
    if targets.words is not None:
        if task == "regression":
            problem = "regression needs numbers as targets, these are words"
            raise InvalidRequestError.at(place, "invalid_targets", problem)
        return _classified(inputs, targets.words, columns, place, limits)
    numbers = targets.numbers
    assert numbers is not None  # noqa: S101 - one of the two is set
    if numbers.ndim == 2:
        return _vectors(inputs, numbers, columns, task, place)
    whole = bool((numbers == np.floor(numbers)).all()) and float(np.abs(numbers).max()) < 2**53
    few = whole and len(np.unique(numbers)) <= MAX_INFERRED_CLASSES
    if task == "regression" or (task is None and not few):
        return Table(inputs, numbers.reshape(-1, 1), list(columns), None)
    words = [str(int(n)) for n in numbers] if whole else [repr(float(n)) for n in numbers]
    return _classified(inputs, words, columns, place, limits)


def _vectors(
    inputs: Array, vectors: Array, columns: Sequence[str], task: Task | None, place: str
) -> Table:
    """Return a table over vectors: classes where each holds a single 1 among zeros."""
    hot = vectors.shape[1] > 1 and bool(
        np.isin(vectors, (0.0, 1.0)).all() and (vectors.sum(axis=1) == 1.0).all()
    )
    if task == "regression" or (task is None and not hot):
        return Table(inputs, vectors, list(columns), None)
    classes = vectors.argmax(axis=1).astype(np.int64)
    if not hot:
        problem = "vectors are classes only where each holds a single 1 among zeros"
        raise InvalidRequestError.at(place, "invalid_targets", problem)
    if len(np.unique(classes)) < 2:
        problem = "there is only one class; nothing can be told apart"
        raise InvalidRequestError.at(place, "one_class", problem)
    labels = [str(index) for index in range(vectors.shape[1])]
    return Table(inputs, classes, list(columns), labels)


def _classified(
    inputs: Array, words: Sequence[str], columns: Sequence[str], place: str, limits: Limits
) -> Table:
    """Return a classification table; its labels are sorted, numbers by size."""
    different = set(words)
    if len(different) > limits.dataset_labels:
        problem = f"{len(different)} classes are more than {limits.dataset_labels}"
        raise InvalidRequestError.at(place, "too_many_classes", problem)
    labels = sorted(different, key=_label_order)
    if len(labels) < 2:
        problem = f"there is only one class, {labels[0][:80]!r}; nothing can be told apart"
        raise InvalidRequestError.at(place, "one_class", problem)
    for label in labels:
        check_name(label, place)
    index = {label: number for number, label in enumerate(labels)}
    targets = np.fromiter((index[word] for word in words), np.int64, len(words))
    return Table(inputs, targets, list(columns), labels)


def _label_order(label: str) -> tuple[int, float, str]:
    """Order numbers by size, before words by alphabet."""
    try:
        number = float(label)
    except ValueError:
        return 1, 0.0, label
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)


def json_rows(inputs: Sequence[Sequence[float]], what: str = "inputs") -> Array:
    """Return a rectangle of numbers, or name the rows that stand out.

    Raises
    ------
    InvalidRequest
        Naming row and column of the first twenty faults.
    """
    width = len(inputs[0]) if inputs else 0
    if inputs and not width:
        raise InvalidRequestError.at(pointer(what, 0), "empty", "row 0 holds no number")
    field_errors = []
    for index, row in enumerate(inputs):
        if len(row) != width:
            problem = f"row {index} has {len(row)} numbers, row 0 has {width}"
            field_errors.append(
                FieldError(pointer(what, index), "ragged", problem, (("row", index),))
            )
            if len(field_errors) == MAX_FIELD_ERRORS:
                break
    if field_errors:
        raise InvalidRequestError(field_errors[0].detail, field_errors)
    return np.array(inputs, np.float64).reshape(len(inputs), width)


def json_targets(targets: Sequence[Any]) -> RawTargets:
    """Return targets of one kind: words, numbers, or vectors of numbers."""
    if targets and all(isinstance(target, str) for target in targets):
        return RawTargets(words=list(targets))
    if targets and all(isinstance(target, list) for target in targets):
        return RawTargets(numbers=json_rows(targets, "targets"))
    for index, target in enumerate(targets):
        if isinstance(target, bool) or not isinstance(target, int | float):
            problem = "targets are all words, all numbers, or all vectors"
            raise InvalidRequestError.at(pointer("targets", index), "mixed_targets", problem)
    return RawTargets(numbers=np.array(targets, np.float64))
