"""Rows to learn from, and how their batches lie for a tape."""

from typing import Any, NamedTuple, final

import numpy as np

from core.arrays import Array
from core.tape import ActivationBuffer, Tape


class Rows(NamedTuple):
    """Inputs with their targets.

    Attributes
    ----------
    inputs
        (rows, inputs), preprocessed.
    targets
        (rows,) class indices, or (rows, units) numbers.
    """

    inputs: Array
    targets: Array


class PackedRows(NamedTuple):
    """Rows as a tape takes them: in its dtype, and on one that is not wide beside a one each."""

    inputs: Array
    targets: Array


def pack_rows(rows: Rows, dtype: np.dtype[Any], *, row_major: bool) -> PackedRows:
    """Return rows laid once, for however many programs take batches of them."""
    if row_major:
        return PackedRows(np.ascontiguousarray(rows.inputs, dtype), rows.targets)
    packed = np.empty((len(rows.inputs), rows.inputs.shape[1] + 1), dtype)
    packed[:, :-1] = rows.inputs
    packed[:, -1] = 1.0
    return PackedRows(packed, rows.targets)


@final
class Batches:
    """A batch of rows for each slot of a tape.

    Parameters
    ----------
    tape
        Whose slots are filled. A batch of all rows has them in their own order.
    laid
        Rows to choose from.
    units
        Of the last layer.

    Attributes
    ----------
    targets
        (slots, units, batch), as the last layer has its outputs.
    """

    def __init__(self, tape: Tape, packed: PackedRows, units: int) -> None:
        self._tape = tape
        self._inputs, self._targets = packed
        steps, batch, width = tape.steps, tape.batch, self._inputs.shape[1]
        self.targets = np.empty((steps, units, batch), tape.dtype)
        self._classes = np.arange(units).reshape(-1, 1)
        if tape.row_major:
            # Gathered when their turn comes, wide rows are still in the cache when a product
            # takes them.
            self._order = np.zeros((steps, batch), np.intp)
            whole = batch == len(self._inputs)
            self._batch = self._inputs if whole else np.empty((batch, width), tape.dtype)
        else:
            self._augmented = np.empty((steps, batch, width), tape.dtype)

    def fill(self, order: Array, step: int = 0) -> None:
        """Choose the rows of the slots from ``step`` on, (slots * batch,) indices."""
        steps = len(order) // self._tape.batch
        filled = slice(step, step + steps)
        if self._tape.row_major:
            self._order[filled] = order.reshape(steps, -1)
        else:
            gathered = self._augmented[filled].reshape(len(order), -1)
            self._inputs.take(order, 0, gathered, "clip")
        taken = self._targets[order].reshape(steps, self._tape.batch, -1).transpose(0, 2, 1)
        if self._targets.ndim == 1 and len(self._classes) > 1:
            np.equal(taken, self._classes, out=self.targets[filled])
        else:
            self.targets[filled] = taken

    def record(self, step: int) -> ActivationBuffer:
        """Return the inputs of ``step``, (inputs, batch), recording what brings them there.

        Rows lie as they were gathered; a product takes the transposed view at no cost.
        """
        if not self._tape.row_major:
            augmented = self._augmented[step].T
            return ActivationBuffer(augmented, augmented[:-1])
        if self._batch is not self._inputs:
            # "clip" writes straight into the batch; the rows are in range anyway.
            self._tape.add(self._inputs.take, self._order[step], 0, self._batch, "clip")
        return ActivationBuffer(None, self._batch.T)
