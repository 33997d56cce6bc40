"""Activation functions: the equation, its derivative, and both as recorded calls.

`forward` evaluates the equation and is used for inference. `record` adds the equation to a tape,
in place on z. It returns a function that records the derivative, dL/dz from dL/da, in terms of a.
The gradient check compares the two.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, final

import numpy as np

from core.arrays import Array
from core.configuration import require
from core.tape import Backward, Tape, do_nothing, scalar

BROADCAST_UNITS: Final = 32
"""Largest number of units for which a square of ones is faster than a row and a broadcast."""


class Activation(ABC):
    """An element-wise function of a layer's pre-activations z (row-wise for softmax)."""

    type: ClassVar[str]

    @abstractmethod
    def forward(self, z: Array) -> Array:
        """Return a = f(z).

        Parameters
        ----------
        z : (batch, units)

        Returns
        -------
        a : (batch, units)
        """

    @abstractmethod
    def record(self, tape: Tape, z: Array) -> Backward:
        """Record z -> a in place and return a function that records dL/da -> dL/dz.

        Parameters
        ----------
        tape
            Receives the calls.
        z : (units, batch)
            Pre-activations. A replay overwrites them with a.

        Returns
        -------
        backward
            Takes dL/da, an array of shape (units, batch) that a replay overwrites with dL/dz.
        """


@final
@dataclass(frozen=True, slots=True)
class Linear(Activation):
    """a = z, so dL/dz = dL/da."""

    type: ClassVar[str] = "linear"

    def forward(self, z: Array) -> Array:
        return z

    def record(self, tape: Tape, z: Array) -> Backward:
        return do_nothing


@final
@dataclass(frozen=True, slots=True)
class Sigmoid(Activation):
    """a = 1 / (1 + exp(-z)), so dL/dz = dL/da a (1 - a).

    In float32, exp(-z) overflows to infinity below z = -88. 1 / infinity is the correct limit.
    """

    type: ClassVar[str] = "sigmoid"

    def forward(self, z: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-z)))

    def record(self, tape: Tape, z: Array) -> Backward:
        one = scalar(1.0, tape.dtype)
        tape.add(np.negative, z, z)
        tape.add(np.exp, z, z)
        tape.add(np.add, z, one, z)
        tape.add(np.divide, one, z, z)
        gradient_view = tape.buffer(z)

        def backward(upstream: Array) -> None:
            tape.add(np.subtract, one, z, gradient_view)
            tape.add(np.multiply, gradient_view, z, gradient_view)
            tape.add(np.multiply, upstream, gradient_view, upstream)

        return backward


@final
@dataclass(frozen=True, slots=True)
class Tanh(Activation):
    """a = tanh(z), so dL/dz = dL/da (1 - a^2)."""

    type: ClassVar[str] = "tanh"

    def forward(self, z: Array) -> Array:
        return np.tanh(z)

    def record(self, tape: Tape, z: Array) -> Backward:
        one = scalar(1.0, tape.dtype)
        tape.add(np.tanh, z, z)
        gradient_view = tape.buffer(z)

        def backward(upstream: Array) -> None:
            tape.add(np.multiply, z, z, gradient_view)
            tape.add(np.subtract, one, gradient_view, gradient_view)
            tape.add(np.multiply, upstream, gradient_view, upstream)

        return backward


@final
@dataclass(frozen=True, slots=True)
class ReLU(Activation):
    """a = max(z, 0), so dL/dz = dL/da where z >= 0 and 0 elsewhere (Nair and Hinton, 2010)."""

    type: ClassVar[str] = "relu"

    def forward(self, z: Array) -> Array:
        return np.maximum(z, 0.0)

    def record(self, tape: Tape, z: Array) -> Backward:
        if not tape.training:
            return self._record_propagating_nan(tape, z)
        # Shifting the inverted sign bit through the word gives a mask for both directions: four
        # integer calls at a fifth of the cost of maximum, sign and multiply. The mask can hide a
        # NaN, so the trainer checks the parameters after each epoch.
        integer = np.dtype(f"i{tape.dtype.itemsize}")
        bits = z.view(integer)
        keep = tape.buffer(z, integer)
        tape.add(np.invert, bits, keep)
        tape.add(np.right_shift, keep, np.array(8 * tape.dtype.itemsize - 1, integer), keep)
        tape.add(np.bitwise_and, bits, keep, bits)

        def backward(upstream: Array) -> None:
            upstream_bits = upstream.view(integer)
            tape.add(np.bitwise_and, upstream_bits, keep, upstream_bits)

        return backward

    @staticmethod
    def _record_propagating_nan(tape: Tape, z: Array) -> Backward:
        """Record the same function without bit masks, so that NaN propagates."""
        zero = scalar(0.0, tape.dtype)
        gradient_view = tape.buffer(z)
        tape.add(np.greater_equal, z, zero, gradient_view)
        tape.add(partial(np.maximum, z, zero, out=z))

        def backward(upstream: Array) -> None:
            tape.add(np.multiply, upstream, gradient_view, upstream)

        return backward


@final
@dataclass(frozen=True, slots=True)
class LeakyReLU(Activation):
    """a = z where z > 0 and slope * z elsewhere (Maas et al., 2013).

    dL/dz = dL/da where z > 0 and slope * dL/da elsewhere.
    """

    type: ClassVar[str] = "leaky_relu"
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        require("negative_slope", self.negative_slope, low=0.0, high=1.0)

    def forward(self, z: Array) -> Array:
        return np.where(z > 0.0, z, z * z.dtype.type(self.negative_slope))

    def record(self, tape: Tape, z: Array) -> Backward:
        gradient_view = tape.buffer(z)
        tape.add(np.greater, z, scalar(0.0, tape.dtype), gradient_view)
        tape.add(
            np.multiply, gradient_view, scalar(1.0 - self.negative_slope, tape.dtype), gradient_view
        )
        tape.add(np.add, gradient_view, scalar(self.negative_slope, tape.dtype), gradient_view)
        tape.add(np.multiply, z, gradient_view, z)

        def backward(upstream: Array) -> None:
            tape.add(np.multiply, upstream, gradient_view, upstream)

        return backward


@final
@dataclass(frozen=True, slots=True)
class Softmax(Activation):
    """a_i = exp(z_i) / sum_j exp(z_j), so dL/dz = a (dL/da - sum_j a_j dL/da_j).

    Subtracting the maximum from z leaves a unchanged and prevents exp from overflowing.
    """

    type: ClassVar[str] = "softmax"

    def forward(self, z: Array) -> Array:
        powers = np.exp(z - z.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))

    def record(self, tape: Tape, z: Array) -> Backward:
        top = tape.buffer(z[:1])
        # A product with ones computes the sums. With few units it also broadcasts them. Both are
        # faster than a reduction.
        rows = len(z) if len(z) <= BROADCAST_UNITS else 1
        sums = tape.buffer(z[:rows])
        ones = tape.constant(lambda: np.ones((rows, len(z)), tape.dtype))
        tape.add(partial(np.maximum.reduce, z, 0, out=top[0]))
        tape.add(np.subtract, z, top, z)
        tape.add(np.exp, z, z)
        tape.product(ones, z, sums)
        tape.add(np.divide, z, sums, z)

        def backward(upstream: Array) -> None:
            tape.add(np.multiply, upstream, z, upstream)
            tape.product(ones, upstream, sums)
            weighted = sums if rows > 1 else tape.buffer(z)
            tape.add(np.multiply, z, sums, weighted)
            tape.add(np.subtract, upstream, weighted, upstream)

        return backward


ACTIVATIONS: Final[dict[str, type[Activation]]] = {
    part.type: part for part in (Sigmoid, ReLU, LeakyReLU, Tanh, Softmax, Linear)
}
