"""The validation set: splitting the rows, and measuring loss and accuracy on them."""

from typing import Final

import numpy as np

from core.arrays import Array
from core.batches import Rows
from core.losses import Loss
from core.metrics import class_indices
from core.network import Network

ROWS_PER_PASS: Final = 4096
"""Validation rows per forward pass."""


SPLIT_VERSION: Final = 1
"""Version of `split`: another one may return other rows."""


def split(
    rows: int, fraction: float, seed: int, classes: Array | None = None
) -> tuple[Array, Array]:
    """Return the indices of training and validation rows, each in ascending order.

    All splits with the same seed are prefixes of one order, so that a larger fraction adds rows to
    the validation set and removes none. With classes, each prefix has about the same share of every
    class, and a class of a single row is validated on last.

    There is at least one training row. With a positive fraction and at least two rows, there is at
    least one validation row.

    Parameters
    ----------
    rows
        Total number of rows.
    fraction
        Fraction of validation rows.
    seed
        Seed of the order. It should depend on nothing but the rows: training again on them must not
        move a row from training to validation.
    classes : (rows,)
        Class indices.

    Returns
    -------
    training : (training rows,)
    validation : (validation rows,)
    """
    if fraction <= 0.0 or rows < 2:
        return np.arange(rows), np.arange(0)
    validation_count = min(max(round(rows * fraction), 1), rows - 1)
    order = np.random.Generator(np.random.SFC64(seed)).permutation(rows)
    if classes is not None:
        order = _stratified(order, classes)
    return np.sort(order[validation_count:]), np.sort(order[:validation_count])


def _stratified(order: Array, classes: Array) -> Array:
    """Return an order in which the rows of each class are spread evenly.

    Parameters
    ----------
    order : (rows,)
        Indices of the rows, whose order within each class remains.
    classes : (rows,)
        Class indices.
    """
    ordered = classes[order]
    sizes = np.bincount(ordered)
    by_class = np.argsort(ordered, kind="stable")
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(order))
    rank[by_class] = np.arange(len(order)) - starts[ordered[by_class]]
    return order[np.argsort((rank + 0.5) / sizes[ordered], kind="stable")]


def evaluate(network: Network, loss: Loss, rows: Rows) -> tuple[float, float | None]:
    """Return the mean loss and the accuracy on rows; the accuracy is None for regression.

    Parameters
    ----------
    rows
        Inputs, (rows, inputs), and targets: class indices, (rows,), or vectors, (rows, units).
    """
    inputs, targets = rows
    is_classification = targets.ndim == 1
    total = correct = 0.0
    for start in range(0, len(inputs), ROWS_PER_PASS):
        part = slice(start, start + ROWS_PER_PASS)
        outputs = network.forward(inputs[part])
        total += loss.value(outputs, targets[part]) * len(outputs)
        if is_classification:
            correct += float(np.sum(class_indices(outputs) == targets[part]))
    return total / len(inputs), correct / len(inputs) if is_classification else None
