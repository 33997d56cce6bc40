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


def split(rows: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """Return the indices of training and validation rows, each in ascending order.

    There is at least one training row. With a positive fraction and at least two rows, there is at
    least one validation row.

    Parameters
    ----------
    rows
        Total number of rows.
    fraction
        Fraction of validation rows.
    seed
        Seed of the random split.

    Returns
    -------
    training : (training rows,)
    validation : (validation rows,)
    """
    if fraction <= 0.0 or rows < 2:
        return np.arange(rows), np.arange(0)
    validation_count = min(max(round(rows * fraction), 1), rows - 1)
    order = np.random.Generator(np.random.SFC64([seed, rows])).permutation(rows)
    return np.sort(order[validation_count:]), np.sort(order[:validation_count])


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
