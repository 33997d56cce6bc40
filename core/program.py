"""A training step recorded once, for a run of batches, as a flat list of calls.

A `Program` is a tape of `steps` batches. Each slot has its own rows, targets, outputs, dropout
masks and step scalars, laid side by side in arrays that are filled for all slots at once; all
else is scratch that the slots share. The caller fills the `batches`, and replays.
"""

from typing import NamedTuple

import numpy as np

from core.arrays import Array
from core.batches import Batches, PackedRows, Rows, pack_rows
from core.losses import Loss
from core.network import Network
from core.optimizers import Optimizer, Vectors
from core.regularization import Regularization
from core.tape import Backward, Tape, scalar

BLOCK = 65_536
"""Elements of the flat vectors that one optimizer call takes: what fits the second cache."""

ROW_MAJOR_INPUTS = 256
"""Inputs from which on the tape is a wide one."""


def is_row_major(network: Network) -> bool:
    """Tell whether the network's program is recorded on a wide tape."""
    return network.inputs >= ROW_MAJOR_INPUTS


def pack_rows_for(network: Network, rows: Rows) -> PackedRows:
    """Return rows as the network's programs take them, laid once for all of them."""
    return pack_rows(rows, network.dtype, row_major=is_row_major(network))


class UpdateStep(NamedTuple):
    """What happens to the parameters after each gradient."""

    optimizer: Optimizer
    memory: Array  # (memories, n)
    regularization: Regularization
    snapshots: Array | None = None  # (slots, n), the parameters after each step where wanted


class Program:
    """The recorded step.

    Parameters
    ----------
    network
        Its parameters are trained in place.
    loss
        What is minimised.
    laid
        The rows that batches are taken from, by `pack_rows_for`.
    batch
        Rows of each batch.
    slots
        Batches in one replay.
    updates
        None records the gradient alone.

    Attributes
    ----------
    batches
        What is learned from next.
    outputs
        (slots, units, batch), as the last layer has them.
    gradient
        (n,), of the batch replayed last; updates use it up.
    squared_norms
        (slots,), of each gradient, before anything is done to it.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        packed: PackedRows,
        batch: int,
        steps: int,
        updates: UpdateStep | None = None,
    ) -> None:
        dtype = network.dtype
        self.batch, self.steps = batch, steps
        self.gradient = np.empty_like(network.parameters)
        self._views = network.views(network.parameters), network.views(self.gradient)
        self._tape = Tape(batch, steps, dtype, row_major=is_row_major(network))
        self.batches = Batches(self._tape, packed, network.units)
        self.outputs = np.empty((steps, network.units, batch), dtype)
        self.squared_norms = np.zeros(steps, dtype)
        self._optimizer = updates.optimizer if updates else None
        self._numbers = np.empty((updates.optimizer.scalars if updates else 0, steps), dtype)
        vectors = Vectors(
            network.parameters,
            self.gradient,
            np.empty_like(self.gradient),
            _ones_at_weights(network),
        )
        for step in range(steps):
            self._tape.begin_step()
            self._record_gradient(network, loss, step)
            if updates is not None:
                norm = self.squared_norms[step : step + 1].reshape(())
                self._tape.product(self.gradient, self.gradient, norm)
                updates.regularization.record(self._tape, vectors)
                self._record_update(updates, vectors, step)
            self._tape.end_step()

    def _record_gradient(self, network: Network, loss: Loss, step: int) -> None:
        """Record one batch forward and backward."""
        activation, outputs = self.batches.record(step), self.outputs[step]
        parameters, gradients = self._views
        recorded = network.record(self._tape, activation, parameters, gradients, outputs)
        delta = self._record_delta(loss, step, recorded[-1].through_activation)
        first = next(index for index, part in enumerate(gradients) if part.size)
        for index in range(len(recorded) - 1, first - 1, -1):
            if index < len(recorded) - 1:
                recorded[index].through_activation(delta)
            upstream = recorded[index].backward(delta, index > first)
            if upstream is not None:
                delta = upstream

    def _record_delta(self, loss: Loss, step: int, through_activation: Backward) -> Array:
        """Record dL/dz of the last layer, scaled to the mean over rows, and return it."""
        tape, outputs, targets = self._tape, self.outputs[step], self.batches.targets[step]
        delta = tape.buffer(outputs)
        loss.record_gradient(tape, outputs, targets, delta)
        if loss.after is None:
            through_activation(delta)
        share = loss.row_scale(len(outputs)) / self.batch
        tape.add(np.multiply, delta, scalar(share, tape.dtype), delta)
        return delta

    def _record_update(self, updates: UpdateStep, vectors: Vectors, step: int) -> None:
        """Record the optimizer, block by block so that long vectors stay in cache."""
        numbers = tuple(row[step : step + 1].reshape(()) for row in self._numbers)
        for start in range(0, self.gradient.size, BLOCK):
            block = slice(start, start + BLOCK)
            part = Vectors(
                vectors.parameters[block],
                vectors.gradient[block],
                vectors.scratch[block],
                vectors.decayed[block],
            )
            updates.optimizer.record(self._tape, part, updates.memory[:, block], numbers)
        if updates.snapshots is not None:
            self._tape.add(np.copyto, updates.snapshots[step], vectors.parameters)

    def schedule(self, learning_rates: Array, steps: Array) -> None:
        """Set the rate and the step number, counted from 1, of the first slots."""
        if self._optimizer is not None:
            numbers = self._optimizer.step_scalars(learning_rates, steps)
            for row, values in zip(self._numbers, numbers, strict=True):
                row[: len(steps)] = values

    def draw_masks(self, generator: np.random.Generator, first: int, last: int) -> None:
        """Draw the dropout masks of the slots from ``first`` up to ``last``."""
        self._tape.draw_masks(generator, first, last)

    def disable_dropout(self) -> None:
        """Fill the dropout masks with ones, as in inference."""
        for masks, _ in self._tape.masks:
            masks.fill(1.0)

    def replay(self, steps: int) -> None:
        """Run the first ``steps`` batches."""
        self._tape.replay(steps)


def _ones_at_weights(network: Network) -> Array:
    """Return 1 where a weight stands in the flat vector and 0 where a bias does."""
    flat = np.ones_like(network.parameters)
    for _, matrix in network.dense(flat):
        matrix[-1] = 0.0
    return flat
