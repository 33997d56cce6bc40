"""A flat list of NumPy calls on arrays made beforehand, replayed without deciding anything.

Small networks are slow where every step pays for dispatch. A tape pays once: each view,
buffer and scalar is made while recording, and a replay is one loop over
``(function, arguments)``.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from core.arrays import Array

Call = tuple[Callable[..., object], tuple[Any, ...]]


RANDOM_WORD: Final = 1 << 16


class ActivationBuffer(NamedTuple):
    """What flows between layers: values over a row of ones, or alone on a wide tape.

    Attributes
    ----------
    augmented
        (units + 1, batch). The last row is one, so that a product with weights over a row of
        biases needs no addition.
    values
        (units, batch), a view of ``augmented`` where there is one.
    """

    augmented: Array | None
    values: Array


class Tape:
    """Records calls for a row of batches, its slots, that share all scratch buffers.

    Parameters
    ----------
    batch
        Rows in each batch.
    slots
        Batches that one replay runs through.
    dtype
        Of every buffer.
    training
        Whether training follows, which looks at the parameters after each epoch. Else nothing is
        silenced, and what is not finite must come through to the outputs.
    wide
        Whether the (units, batch) arrays lie row after row of the batch, as BLAS likes large
        ones, and without the ones, whose laying beside them costs more there than the two calls
        that they save. Else they lie unit after unit.
    """

    def __init__(
        self,
        batch: int,
        steps: int,
        dtype: np.dtype[Any],
        *,
        training: bool = True,
        row_major: bool = False,
    ) -> None:
        self.batch = batch
        self.steps = steps
        self.dtype = dtype
        self.training = training
        self.row_major = row_major
        self.calls: list[Call] = []
        self.masks: list[tuple[Array, float]] = []
        self._buffers: list[Array] = []
        self._next_buffer = 0
        self._next_mask = 0
        self._slot = -1
        self._slot_ends = [0]

    def begin_step(self) -> int:
        """Start recording the next batch; buffers are handed out again from the first."""
        self._slot += 1
        self._next_buffer = self._next_mask = 0
        return self._slot

    def end_step(self) -> None:
        """Note where the batch's calls end, so that a replay can run part of the slots."""
        self._slot_ends.append(len(self.calls))

    def add(self, function: Callable[..., object], *arguments: Any) -> None:
        """Record one call."""
        self.calls.append((function, arguments))

    def product(self, a: Array, b: Array, out: Array) -> None:
        """Record out <- a b, whichever way ``out`` lies.

        The method spares the function's way through Python, a third of a small product.
        """
        if out.flags.c_contiguous:
            self.add(a.dot, b, out)
        else:
            self.add(b.T.dot, a.T, out.T)

    def constant(self, make: Callable[[], Array]) -> Array:
        """Return what every slot shares and none writes to."""
        return self._shared(make)

    def _shared(self, make: Callable[[], Array]) -> Array:
        """Return what every slot shares: the n-th request of each gets the n-th array."""
        if self._next_buffer == len(self._buffers):
            self._buffers.append(make())
        self._next_buffer += 1
        return self._buffers[self._next_buffer - 1]

    def buffer(self, like: Array, dtype: Any = None) -> Array:
        """Return scratch of the shape and the layout of ``like``."""
        return self._shared(lambda: np.empty_like(like, self.dtype if dtype is None else dtype))

    def activation(self, units: int) -> ActivationBuffer:
        """Return a buffer for a layer's output."""
        if self.row_major:
            return ActivationBuffer(
                None, self._shared(lambda: np.empty((self.batch, units), self.dtype)).T
            )
        augmented = self._shared(lambda: np.empty((units + 1, self.batch), self.dtype))
        augmented[-1] = 1.0
        return ActivationBuffer(augmented, augmented[:-1])

    def mask(self, like: Array, keep: float) -> Array:
        """Return this slot's dropout mask, laid like ``like``; `draw_masks` fills it."""
        if self._next_mask == len(self.masks):
            shape = like.T.shape if self.row_major else like.shape
            self.masks.append((np.empty((self.steps, *shape), self.dtype), keep))
        self._next_mask += 1
        mask: Array = self.masks[self._next_mask - 1][0][self._slot]
        return mask.T if self.row_major else mask

    def draw_masks(self, generator: np.random.Generator, first: int, last: int) -> None:
        """Fill the masks of slots ``first`` to ``last`` (exclusive): 0, or 1 / keep.

        Sixteen random bits decide over a unit, so keep is a multiple of 2^-16.
        """
        for masks, keep in self.masks:
            drawn = masks[first:last]
            kept = max(1, round(keep * RANDOM_WORD))
            words = generator.bit_generator.random_raw(-(-drawn.size // 4)).view(np.uint16)
            keeps = words[: drawn.size].reshape(drawn.shape) < kept
            np.multiply(keeps, scalar(RANDOM_WORD / kept, self.dtype), out=drawn)

    def replay(self, steps: int) -> None:
        """Run the calls of the first ``steps`` batches."""
        calls = self.calls
        if steps != self.steps:
            calls = calls[: self._slot_ends[steps]]
        for function, arguments in calls:
            function(*arguments)


Backward = Callable[[Array], None]
"""Records, on the tape it was made for, how dL/da becomes dL/dz in place."""


def do_nothing(_: Array) -> None:
    """Record nothing: the derivative is one."""


def scalar(value: float, dtype: np.dtype[Any]) -> Array:
    """Return a 0-d array: NumPy takes it faster than a Python number."""
    return np.array(value, dtype)
