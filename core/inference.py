"""Answers of a network: its numbers laid out once, and nothing decided per call."""

from typing import Final, final

import numpy as np

from core.arrays import Array, as_rows
from core.errors import NonFiniteError
from core.layers import Dense
from core.network import Network
from core.preprocessing import Preprocessing

ROUNDING: Final = {"float32": 2e-5, "float64": 4e-14}
"""How far a row's outputs may move, relative to the largest, with the rows it is batched with.

BLAS adds up in another order for one row, a few and many. The bound is for weights as training
leaves them; docs/explanation/serving.md has what was measured, a test holds it.
"""


@final
class Forward:
    """The forward pass of one network, for as many callers as like, in any thread.

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

    def __call__(self, rows: Array) -> Array:
        """Return the outputs for raw rows.

        Parameters
        ----------
        rows
            (batch, inputs), finite float64.

        Returns
        -------
        Array
            (batch, units), in the network's dtype unless targets are scaled back.

        Raises
        ------
        NonFiniteError
            When inputs or outputs leave the finite numbers of the dtype; its path names the row.
        """
        with np.errstate(all="ignore"):  # what is not finite is refused
            if self._preprocessing.inputs is not None:
                rows = self._preprocessing.inputs.apply(rows)
            x = as_rows(rows, self.inputs, self.dtype)
            for weights, biases, activate in self._steps:
                z = np.dot(x, weights)
                z += biases
                x = activate(z)
            if self._preprocessing.targets is not None:
                x = self._preprocessing.targets.invert(x)
        finite = np.isfinite(x)
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            raise NonFiniteError(f"the outputs for row {row} as {self.dtype.name}", path=(row,))
        return x
