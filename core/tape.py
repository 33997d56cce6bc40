"""A flat list of NumPy calls on arrays made beforehand, replayed without deciding anything.

Small networks are slow where every step pays for dispatch. A tape pays once: each view,
buffer and scalar is made while recording, and a replay is one loop over
``(function, arguments)``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from core.arrays import Array

Call = tuple[Callable[..., object], tuple[Any, ...]]


class Signal(NamedTuple):
    """What flows between layers: feature-major values over a row of ones.

    Attributes
    ----------
    augmented
        (units + 1, batch). The last row is one, so that a product with weights whose last
        column is the bias needs no addition. None where the ones would cost more than they save.
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
    """

    def __init__(self, batch: int, slots: int, dtype: np.dtype[Any]) -> None:
        self.batch = batch
        self.slots = slots
        self.dtype = dtype
        self.calls: list[Call] = []
        self.masks: list[tuple[Array, float]] = []
        self._buffers: list[Array] = []
        self._next_buffer = 0
        self._next_mask = 0
        self._slot = -1
        self._slot_ends = [0]

    def begin_slot(self) -> int:
        """Start recording the next batch; buffers are handed out again from the first."""
        self._slot += 1
        self._next_buffer = self._next_mask = 0
        return self._slot

    def end_slot(self) -> None:
        """Note where the batch's calls end, so that a replay can run part of the slots."""
        self._slot_ends.append(len(self.calls))

    def add(self, function: Callable[..., object], *arguments: Any) -> None:
        """Record one call."""
        self.calls.append((function, arguments))

    def buffer(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """Return scratch that every slot shares: the n-th request gets the n-th buffer."""
        if self._next_buffer == len(self._buffers):
            self._buffers.append(np.empty(shape, self.dtype if dtype is None else dtype))
        self._next_buffer += 1
        return self._buffers[self._next_buffer - 1]

    def signal(self, units: int) -> Signal:
        """Return a buffer for a layer's output."""
        augmented = self.buffer((units + 1, self.batch))
        augmented[-1] = 1.0
        return Signal(augmented, augmented[:-1])

    def mask(self, units: int, keep: float) -> Array:
        """Return this slot's dropout mask, (units, batch); `draw_masks` fills it."""
        if self._next_mask == len(self.masks):
            self.masks.append((np.empty((self.slots, units, self.batch), self.dtype), keep))
        self._next_mask += 1
        mask: Array = self.masks[self._next_mask - 1][0][self._slot]
        return mask

    def draw_masks(self, generator: np.random.Generator, first: int, last: int) -> None:
        """Fill the masks of slots ``first`` to ``last`` (exclusive): 0, or 1 / keep."""
        for masks, keep in self.masks:
            drawn = masks[first:last]
            generator.random(out=drawn, dtype=self.dtype.type)
            np.add(drawn, keep, out=drawn)
            np.floor(drawn, out=drawn)
            np.divide(drawn, keep, out=drawn)

    def replay(self, slots: int) -> None:
        """Run the calls of the first ``slots`` batches."""
        calls = self.calls
        if slots != self.slots:
            calls = calls[: self._slot_ends[slots]]
        for function, arguments in calls:
            function(*arguments)


Backward = Callable[[Array], None]
"""Records, on the tape it was made for, how dL/da becomes dL/dz in place."""


def do_nothing(_: Array) -> None:
    """Record nothing: the derivative is one."""


def scalar(value: float, dtype: np.dtype[Any]) -> Array:
    """Return a 0-d array: NumPy takes it faster than a Python number."""
    return np.array(value, dtype)
