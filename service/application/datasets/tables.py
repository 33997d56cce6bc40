"""Builds the table of a dataset from rows and targets, and validates it."""

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
"""With more distinct whole numbers as targets, the inferred task is regression."""


@dataclass(frozen=True, slots=True)
class RawTargets:
    """Targets before the task is known; exactly one field is set."""

    words: list[str] | None = None
    numbers: Array | None = None  # (rows,) or (rows, outputs) float64


@dataclass(frozen=True, slots=True)
class Table:
    """The validated rows of a dataset.

    Attributes
    ----------
    inputs
        (rows, columns) float64.
    targets
        (rows,) int64 class indices, or (rows, outputs) float64.
    columns
        Names of the input columns, or None if the rows have none.
    """

    inputs: Array
    targets: Array
    columns: list[str] | None
    labels: list[str] | None

    @property
    def task(self) -> Task:
        """Classification if there are labels."""
        return "regression" if self.labels is None else "classification"


def build_table(
    inputs: Array,
    targets: RawTargets,
    columns: list[str] | None,
    task: Task | None,
    target_pointer: str,
    limits: Limits,
) -> Table:
    """Return the table of rows and targets.

    Parameters
    ----------
    inputs
        (rows, columns) float64.
    targets
        Words, or numbers of shape (rows,) or (rows, outputs).
    columns
        Names of the input columns, or None if the rows have none.
    task
        None infers the task from the targets.
    target_pointer
        JSON pointer to the targets in the request, for errors.

    Raises
    ------
    InvalidRequestError
        If ``inputs`` is empty, or the targets do not fit the task.
    """
    if len(inputs) == 0:
        raise InvalidRequestError.at(target_pointer, "empty", "a dataset needs at least one row")
    if targets.words is not None:
        if task == "regression":
            problem = "regression requires numbers as targets, got words"
            raise InvalidRequestError.at(target_pointer, "invalid_targets", problem)
        return _classified(inputs, targets.words, columns, target_pointer, limits)
    numbers = targets.numbers
    assert numbers is not None  # noqa: S101 - one of the two is set
    if numbers.ndim == 2:
        return _vectors(inputs, numbers, columns, task, target_pointer)
    whole = bool((numbers == np.floor(numbers)).all()) and float(np.abs(numbers).max()) < 2**53
    few = whole and len(np.unique(numbers)) <= MAX_INFERRED_CLASSES
    if task == "regression" or (task is None and not few):
        return Table(inputs, numbers.reshape(-1, 1), columns, None)
    words = [str(int(n)) for n in numbers] if whole else [repr(float(n)) for n in numbers]
    return _classified(inputs, words, columns, target_pointer, limits)


def _vectors(
    inputs: Array, vectors: Array, columns: list[str] | None, task: Task | None, target_pointer: str
) -> Table:
    """Return a table with vectors as targets; one-hot vectors are classes.

    ``inputs`` is (rows, columns), ``vectors`` is (rows, outputs).
    """
    one_hot = vectors.shape[1] > 1 and bool(
        np.isin(vectors, (0.0, 1.0)).all() and (vectors.sum(axis=1) == 1.0).all()
    )
    if task == "regression" or (task is None and not one_hot):
        return Table(inputs, vectors, columns, None)
    classes = vectors.argmax(axis=1).astype(np.int64)
    if not one_hot:
        problem = "classification requires vectors with a single 1 among zeros"
        raise InvalidRequestError.at(target_pointer, "invalid_targets", problem)
    if len(np.unique(classes)) < 2:
        problem = "the targets have a single class; at least two are required"
        raise InvalidRequestError.at(target_pointer, "one_class", problem)
    labels = [str(index) for index in range(vectors.shape[1])]
    return Table(inputs, classes, columns, labels)


def _classified(
    inputs: Array,
    words: Sequence[str],
    columns: list[str] | None,
    target_pointer: str,
    limits: Limits,
) -> Table:
    """Return a classification table with sorted labels; ``inputs`` is (rows, columns)."""
    distinct = set(words)
    if len(distinct) > limits.dataset_labels:
        problem = f"expected at most {limits.dataset_labels} classes, got {len(distinct)}"
        raise InvalidRequestError.at(target_pointer, "too_many_classes", problem)
    labels = sorted(distinct, key=_label_order)
    if len(labels) < 2:
        problem = f"the targets have a single class, {labels[0][:80]!r}; at least two are required"
        raise InvalidRequestError.at(target_pointer, "one_class", problem)
    for label in labels:
        check_name(label, target_pointer)
    index = {label: number for number, label in enumerate(labels)}
    targets = np.fromiter((index[word] for word in words), np.int64, len(words))
    return Table(inputs, targets, columns, labels)


def _label_order(label: str) -> tuple[int, float, str]:
    """Return a sort key: numbers by value, then words in alphabetical order."""
    try:
        number = float(label)
    except ValueError:
        return 1, 0.0, label
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)


def json_rows(inputs: Sequence[Sequence[float]], field: str = "inputs") -> Array:
    """Return rows of equal length as an array, (rows, columns) float64.

    Parameters
    ----------
    inputs
        The rows.
    field
        Name of the field in the request, for errors.

    Raises
    ------
    InvalidRequestError
        If the first row is empty, or other rows differ from it in length. The error names at most
        `MAX_FIELD_ERRORS` rows.
    """
    width = len(inputs[0]) if inputs else 0
    if inputs and not width:
        raise InvalidRequestError.at(pointer(field, 0), "empty", "row 0 has no numbers")
    field_errors = []
    for index, row in enumerate(inputs):
        if len(row) != width:
            problem = f"row {index} has {len(row)} numbers, but row 0 has {width}"
            field_errors.append(
                FieldError(pointer(field, index), "ragged", problem, (("row", index),))
            )
            if len(field_errors) == MAX_FIELD_ERRORS:
                break
    if field_errors:
        raise InvalidRequestError(field_errors[0].detail, field_errors)
    return np.array(inputs, np.float64).reshape(len(inputs), width)


def json_targets(targets: Sequence[Any]) -> RawTargets:
    """Return targets that are all words, all numbers, or all vectors."""
    if targets and all(isinstance(target, str) for target in targets):
        return RawTargets(words=list(targets))
    if targets and all(isinstance(target, list) for target in targets):
        return RawTargets(numbers=json_rows(targets, "targets"))
    for index, target in enumerate(targets):
        if isinstance(target, bool) or not isinstance(target, int | float):
            problem = "targets must be all words, all numbers, or all vectors"
            raise InvalidRequestError.at(pointer("targets", index), "mixed_targets", problem)
    return RawTargets(numbers=np.array(targets, np.float64))
