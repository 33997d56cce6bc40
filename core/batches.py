"""Training rows, and the memory layout of their batches on a tape."""

from typing import Any, NamedTuple, final

import numpy as np

from core.arrays import Array
from core.tape import ActivationBuffer, Tape


class Rows(NamedTuple):
    """Inputs with their targets.

    Attributes
    ----------
    inputs : (rows, inputs)
        Preprocessed inputs.
    targets : (rows,) or (rows, units)
        Class indices of shape (rows,), or values of shape (rows, units).
    """

    inputs: Array
    targets: Array


class PackedRows(NamedTuple):
    """Rows in the tape's dtype, with a trailing column of ones on feature-major tapes.

    Attributes
    ----------
    inputs : (rows, inputs) or (rows, inputs + 1)
        Without the column of ones on row-major tapes, with it on feature-major tapes.
    targets : (rows,) or (rows, units)
        As in `Rows`.
    """

    inputs: Array
    targets: Array


def pack_rows(rows: Rows, dtype: np.dtype[Any], *, row_major: bool) -> PackedRows:
    """Return rows in the layout that tapes read. One result can serve several programs.

    Parameters
    ----------
    rows
        Inputs of shape (rows, inputs) with their targets.
    dtype
        The dtype of the tape.
    row_major
        True for row-major tapes, see `Tape`.
    """
    if row_major:
        return PackedRows(np.ascontiguousarray(rows.inputs, dtype), rows.targets)
    packed = np.empty((len(rows.inputs), rows.inputs.shape[1] + 1), dtype)
    packed[:, :-1] = rows.inputs
    packed[:, -1] = 1.0
    return PackedRows(packed, rows.targets)


@final
class Batches:
    """The batch of rows for each step of a tape.

    Parameters
    ----------
    tape
        The tape whose steps read the batches. A batch of all rows keeps their order.
    packed
        The rows to select from, by `pack_rows`.
    units
        Units of the last layer.

    Attributes
    ----------
    targets : (steps, units, batch)
        Targets in the layout of the last layer's outputs.
    """

    def __init__(self, tape: Tape, packed: PackedRows, units: int) -> None:
        self._tape = tape
        self._inputs, self._targets = packed
        steps, batch, width = tape.steps, tape.batch, self._inputs.shape[1]
        self.targets = np.empty((steps, units, batch), tape.dtype)
        self._classes = np.arange(units).reshape(-1, 1)
        if tape.row_major:
            # Rows are gathered just before their step, so that they are still in the cache when
            # the product reads them.
            self._order = np.zeros((steps, batch), np.intp)
            full_batch = batch == len(self._inputs)
            self._batch = self._inputs if full_batch else np.empty((batch, width), tape.dtype)
        else:
            self._augmented = np.empty((steps, batch, width), tape.dtype)

    def fill(self, order: Array, step: int = 0) -> None:
        """Select the rows of consecutive steps.

        Parameters
        ----------
        order : (steps * batch,)
            Indices of the rows, step by step.
        step
            The first step to fill.
        """
        steps = len(order) // self._tape.batch
        step_range = slice(step, step + steps)
        if self._tape.row_major:
            self._order[step_range] = order.reshape(steps, -1)
        else:
            gathered = self._augmented[step_range].reshape(len(order), -1)
            self._inputs.take(order, 0, gathered, "clip")
        selected = self._targets[order].reshape(steps, self._tape.batch, -1).transpose(0, 2, 1)
        if self._targets.ndim == 1 and len(self._classes) > 1:
            np.equal(selected, self._classes, out=self.targets[step_range])
        else:
            self.targets[step_range] = selected

    def record(self, step: int) -> ActivationBuffer:
        """Record the gathering of one step's rows and return the buffer that receives them.

        The rows are stored row by row. The buffer is a transposed view, (inputs, batch), which a
        product reads at no extra cost.
        """
        if not self._tape.row_major:
            augmented = self._augmented[step].T
            return ActivationBuffer(augmented, augmented[:-1])
        if self._batch is not self._inputs:
            # mode="clip" writes directly into the batch. The indices are always in range.
            self._tape.add(self._inputs.take, self._order[step], 0, self._batch, "clip")
        return ActivationBuffer(None, self._batch.T)
