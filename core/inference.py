"""Answers of a network: its numbers laid out once, and nothing decided per call."""

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
"""How far a row's outputs may move, relative to the largest, with the rows it is batched with.

BLAS adds up in another order for one row, a few and many. The bound is for weights as training
leaves them; docs/explanation/serving.md has what was measured, a test holds it.
"""


FEW_ROWS: Final = 3
LARGE: Final = 50_000
"""So few rows go one by one where there are so many parameters: a product of two or three rows
costs more than as many of one."""


@final
class Forward:
    """The forward pass of one network, for as many callers as like, in any thread.

    One row is the call that is made most: it goes through a recorded tape, whose buffers callers
    take in turn, and so do a few of a large network. More rows are worth new arrays.

    Parameters
    ----------
    network
        Its parameters are copied, weights (inputs, units) as a product over rows likes them.
    preprocessing
        Applied to raw rows, and back to outputs.
    """

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        self.inputs, self.units, self.dtype = network.inputs, network.units, network.dtype
        self._preprocessing = preprocessing
        self._steps = [
            (part.weights, part.biases, layer.activation.forward)
            for layer, part in zip(network.layers, network.layer_weights(), strict=True)
            if isinstance(layer, Dense) and part is not None
        ]
        self._one_by_one = FEW_ROWS if network.parameters.size >= LARGE else 1
        self._lock = threading.Lock()
        self._row, self._calls, self._output = _recorded(network)

    def __call__(self, rows: Array) -> Array:
        """Return the outputs for raw rows.

        Parameters
        ----------
        rows
            (batch, inputs), float64.

        Returns
        -------
        Array
            (batch, units), in the network's dtype unless targets are scaled back.

        Raises
        ------
        ShapeError, NonFiniteError
            When rows are not as wide as the network, or inputs or outputs leave the finite numbers
            of its dtype; the path names the row.
        """
        # Looked at first: a standardisation would stretch a narrower row to its own width.
        if rows.ndim != 2 or rows.shape[1] != self.inputs:
            raise ShapeError("inputs", expected=(None, self.inputs), got=rows.shape)
        with np.errstate(all="ignore"):  # what is not finite is refused
            if self._preprocessing.inputs is not None:
                rows = self._preprocessing.inputs.apply(rows)
            x = self._of_few(rows) if len(rows) <= self._one_by_one else self._of_many(rows)
            if self._preprocessing.targets is not None:
                x = self._preprocessing.targets.invert(x)
            if not _all_finite(x):
                raise self._not_finite(x)
        return x

    def _of_many(self, rows: Array) -> Array:
        x = as_rows(rows, self.inputs, self.dtype)
        for weights, biases, activate in self._steps:
            z = x.dot(weights)
            z += biases
            x = activate(z)
        return x

    def _of_few(self, rows: Array) -> Array:
        outputs = np.empty((len(rows), self.units), self.dtype)
        with self._lock:
            for row, output in zip(rows, outputs, strict=True):
                self._row[:] = row
                if not _all_finite(self._row):
                    as_rows(rows, self.inputs, self.dtype)  # names the place
                for function, arguments in self._calls:
                    function(*arguments)
                output[:] = self._output
        return outputs

    def _not_finite(self, outputs: Array) -> NonFiniteError:
        row = int(np.argwhere(~np.isfinite(outputs))[0][0])
        return NonFiniteError(f"the outputs for row {row} as {self.dtype.name}", path=(row,))


def _all_finite(numbers: Array) -> bool:
    """Tell whether all are finite: one product where it does not overflow, else a look at each."""
    flat = numbers.ravel()
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())


def _recorded(network: Network) -> tuple[Array, list[Call], Array]:
    """Return where a row goes, the calls, and where its outputs are then."""
    tape = Tape(1, 1, network.dtype, training=False)
    tape.begin_step()
    activation = tape.activation(network.inputs)
    parameters = network.views(network.parameters.copy())
    unused = network.views(np.empty_like(network.parameters))
    outputs = network.record(tape, activation, parameters, unused)[-1].output
    tape.end_step()
    return activation.values[:, 0], tape.calls, outputs.values[:, 0]
