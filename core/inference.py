"""Inference of a network. Weights are arranged once, not per call."""

import math
import threading
from typing import Final, final

import numpy as np

from core.arrays import Array, as_rows
from core.errors import NonFiniteError, ShapeError
from core.layers import Dense
from core.network import Network
from core.preprocessing import Preprocessing
from core.tape import Call, Tape

ROUNDING: Final = {"float32": 2e-5, "float64": 4e-14}
"""How much the outputs of a row may vary with its batch, relative to the largest output.

BLAS uses different summation orders for one, a few and many rows. The bound applies to weights as
training produces them. docs/explanation/serving.md lists measurements, and a test enforces it.
"""


MAX_TAPE_ROWS: Final = 3
MIN_TAPE_PARAMETERS: Final = 50_000
"""From this many parameters on, up to `MAX_TAPE_ROWS` rows are computed one by one.

A product with two or three rows then costs more than two or three products with one row.
"""


@final
class Forward:
    """The forward pass of one network. Any number of threads may call it concurrently.

    A single row is the most frequent request. It runs on a recorded tape, whose buffers are
    protected by a lock. So do a few rows of a large network. For more rows, new arrays are faster.

    Parameters
    ----------
    network
        Its parameters are copied. Weights are stored as (inputs, units), the layout for products
        over rows.
    preprocessing
        Applied to raw inputs. Its inverse is applied to outputs.
    """

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        self.inputs, self.units, self.dtype = network.inputs, network.units, network.dtype
        self._preprocessing = preprocessing
        self._steps = [
            (part.weights, part.biases, layer.activation.forward)
            for layer, part in zip(network.layers, network.layer_weights(), strict=True)
            if isinstance(layer, Dense) and part is not None
        ]
        self._max_tape_rows = MAX_TAPE_ROWS if network.parameters.size >= MIN_TAPE_PARAMETERS else 1
        self._lock = threading.Lock()
        self._row, self._calls, self._output = _record_row(network)

    def __call__(self, rows: Array) -> Array:
        """Return the outputs for raw rows.

        Parameters
        ----------
        rows : (batch, inputs)
            In float64.

        Returns
        -------
        outputs : (batch, units)
            In the network's dtype, or in float64 if targets are scaled back.

        Raises
        ------
        ShapeError
            If the rows do not have as many columns as the network has inputs.
        NonFiniteError
            If an input or an output is not finite in the network's dtype. The path starts with the
            row.
        """
        # Check the shape first, because standardization would broadcast a narrower row.
        if rows.ndim != 2 or rows.shape[1] != self.inputs:
            raise ShapeError("inputs", expected=(None, self.inputs), got=rows.shape)
        with np.errstate(all="ignore"):  # non-finite values are rejected below
            if self._preprocessing.inputs is not None:
                rows = self._preprocessing.inputs.apply(rows)
            x = (
                self._forward_rows(rows)
                if len(rows) <= self._max_tape_rows
                else self._forward_batch(rows)
            )
            if self._preprocessing.targets is not None:
                x = self._preprocessing.targets.invert(x)
            if not _all_finite(x):
                raise self._non_finite_error(x)
        return x

    def _forward_batch(self, rows: Array) -> Array:
        x = as_rows(rows, self.inputs, self.dtype)
        for weights, biases, activate in self._steps:
            z = x.dot(weights)
            z += biases
            x = activate(z)
        return x

    def _forward_rows(self, rows: Array) -> Array:
        outputs = np.empty((len(rows), self.units), self.dtype)
        with self._lock:
            for row, output in zip(rows, outputs, strict=True):
                self._row[:] = row
                if not _all_finite(self._row):
                    as_rows(rows, self.inputs, self.dtype)  # raises with the row and the column
                for function, arguments in self._calls:
                    function(*arguments)
                output[:] = self._output
        return outputs

    def _non_finite_error(self, outputs: Array) -> NonFiniteError:
        row = int(np.argwhere(~np.isfinite(outputs))[0][0])
        return NonFiniteError(f"the outputs for row {row} as {self.dtype.name}", path=(row,))


def _all_finite(values: Array) -> bool:
    """Return True if all values are finite. Elements are tested only if a dot product overflows."""
    flat = values.ravel()
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())


def _record_row(network: Network) -> tuple[Array, list[Call], Array]:
    """Return a view for the input row, the recorded calls, and a view of the outputs."""
    tape = Tape(1, 1, network.dtype, training=False)
    tape.begin_step()
    activation = tape.activation(network.inputs)
    parameters = network.views(network.parameters.copy())
    unused_gradients = network.views(np.empty_like(network.parameters))
    outputs = network.record(tape, activation, parameters, unused_gradients)[-1].output
    tape.end_step()
    return activation.values[:, 0], tape.calls, outputs.values[:, 0]
