"""A flat list of NumPy calls on preallocated arrays, replayed without further decisions.

For small networks the dispatch of each step dominates the cost. A tape pays it once: all views,
buffers and scalars are created while recording. A replay is one loop over
``(function, arguments)``.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from core.arrays import Array

Call = tuple[Callable[..., object], tuple[Any, ...]]


RANDOM_WORD: Final = 1 << 16


class ActivationBuffer(NamedTuple):
    """The output of a layer: values above a row of ones, or only values on row-major tapes.

    Attributes
    ----------
    augmented : (units + 1, batch)
        The last row is one, so that a product with weights above a row of biases includes the
        biases. None on row-major tapes.
    values : (units, batch)
        A view of ``augmented``, if there is one.
    """

    augmented: Array | None
    values: Array


class Tape:
    """Records the calls of consecutive batches, its steps. All steps share the scratch buffers.

    Parameters
    ----------
    batch
        Rows per batch.
    steps
        Batches per replay.
    dtype
        The dtype of all buffers.
    training
        True if the tape is for training, where parameters are checked after each epoch.
        Otherwise dropout is disabled and non-finite values propagate to the outputs.
    row_major
        If True, the (units, batch) arrays are stored row by row of the batch (row-major),
        otherwise unit by unit (feature-major). BLAS is faster on large row-major arrays. Row-major
        buffers have no ones, because writing them costs more than the two calls that they save.
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
        self._step = -1
        self._step_ends = [0]

    def begin_step(self) -> int:
        """Begin the next step. Its buffers are those of the first step, in order."""
        self._step += 1
        self._next_buffer = self._next_mask = 0
        return self._step

    def end_step(self) -> None:
        """Mark the end of the step, so that a replay can run the first steps only."""
        self._step_ends.append(len(self.calls))

    def add(self, function: Callable[..., object], *arguments: Any) -> None:
        """Record one call."""
        self.calls.append((function, arguments))

    def product(self, a: Array, b: Array, out: Array) -> None:
        """Record out <- a b for an ``out`` in C or Fortran order.

        The method `dot` avoids the Python overhead of the function, a third of a small product.

        Parameters
        ----------
        a : (rows, inner)
        b : (inner, columns)
        out : (rows, columns)
        """
        if out.flags.c_contiguous:
            self.add(a.dot, b, out)
        else:
            self.add(b.T.dot, a.T, out.T)

    def constant(self, make: Callable[[], Array]) -> Array:
        """Return an array that all steps share and no step modifies. ``make`` creates it."""
        return self._shared(make)

    def _shared(self, make: Callable[[], Array]) -> Array:
        """Return a shared array: the n-th request of each step returns the n-th array."""
        if self._next_buffer == len(self._buffers):
            self._buffers.append(make())
        self._next_buffer += 1
        return self._buffers[self._next_buffer - 1]

    def buffer(self, like: Array, dtype: Any = None) -> Array:
        """Return a scratch buffer with the shape and the memory layout of ``like``."""
        return self._shared(lambda: np.empty_like(like, self.dtype if dtype is None else dtype))

    def activation(self, units: int) -> ActivationBuffer:
        """Return a buffer for a layer's output, (units, batch)."""
        if self.row_major:
            return ActivationBuffer(
                None, self._shared(lambda: np.empty((self.batch, units), self.dtype)).T
            )
        augmented = self._shared(lambda: np.empty((units + 1, self.batch), self.dtype))
        augmented[-1] = 1.0
        return ActivationBuffer(augmented, augmented[:-1])

    def mask(self, like: Array, keep_probability: float) -> Array:
        """Return the dropout mask of this step. `draw_masks` fills it.

        Parameters
        ----------
        like : (units, batch)
            Determines shape and memory layout.
        keep_probability
            Probability that a unit remains.
        """
        if self._next_mask == len(self.masks):
            shape = like.T.shape if self.row_major else like.shape
            self.masks.append((np.empty((self.steps, *shape), self.dtype), keep_probability))
        self._next_mask += 1
        mask: Array = self.masks[self._next_mask - 1][0][self._step]
        return mask.T if self.row_major else mask

    def draw_masks(self, generator: np.random.Generator, first: int, last: int) -> None:
        """Fill the masks of steps ``first`` (inclusive) to ``last`` (exclusive).

        Mask values are 0 or 1 / keep_probability. Each unit uses 16 random bits, so the probability
        is rounded to a multiple of 2^-16.
        """
        for masks, keep_probability in self.masks:
            step_masks = masks[first:last]
            threshold = max(1, round(keep_probability * RANDOM_WORD))
            words = generator.bit_generator.random_raw(-(-step_masks.size // 4)).view(np.uint16)
            survives = words[: step_masks.size].reshape(step_masks.shape) < threshold
            np.multiply(survives, scalar(RANDOM_WORD / threshold, self.dtype), out=step_masks)

    def replay(self, steps: int) -> None:
        """Run the calls of the first ``steps`` batches."""
        calls = self.calls
        if steps != self.steps:
            calls = calls[: self._step_ends[steps]]
        for function, arguments in calls:
            function(*arguments)


Backward = Callable[[Array], None]
"""Takes dL/da and records, on its tape, the update to dL/dz in place."""


def do_nothing(_: Array) -> None:
    """Record nothing, because the derivative is one."""


def scalar(value: float, dtype: np.dtype[Any]) -> Array:
    """Return a 0-d array, which NumPy processes faster than a Python number."""
    return np.array(value, dtype)
