"""Training steps, recorded once as a flat list of calls.

A `Program` is a tape of `steps` batches. Each step has its own rows, targets, outputs, dropout
masks and scalars. They are stored contiguously, so that all steps are filled at once. All other
buffers are shared by the steps. The caller fills the `batches` and then replays.
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
"""Elements of the flat vectors per optimizer call, chosen to fit the second-level cache."""

ROW_MAJOR_INPUTS = 256
"""From this many inputs on, tapes are row-major."""


def is_row_major(network: Network) -> bool:
    """Return True if the network's programs use row-major tapes."""
    return network.inputs >= ROW_MAJOR_INPUTS


def pack_rows_for(network: Network, rows: Rows) -> PackedRows:
    """Return rows in the layout that all programs of the network read.

    Parameters
    ----------
    network
        The network to train.
    rows
        Inputs of shape (rows, inputs) with their targets.
    """
    return pack_rows(rows, network.dtype, row_major=is_row_major(network))


class UpdateStep(NamedTuple):
    """The update of the parameters after each gradient.

    Attributes
    ----------
    optimizer
        The update rule.
    optimizer_state : (state_size, n)
        Updated in place.
    regularization
        Applied to the gradient before the optimizer.
    snapshots : (steps, n)
        Receives the parameters after each step, if given.
    """

    optimizer: Optimizer
    optimizer_state: Array
    regularization: Regularization
    snapshots: Array | None = None


class Program:
    """Recorded training steps.

    Parameters
    ----------
    network
        Its parameters, (n,), are trained in place.
    loss
        The loss to minimize.
    packed
        The rows that batches are selected from, by `pack_rows_for`.
    batch
        Rows per batch.
    steps
        Batches per replay.
    updates
        None records only the gradient.

    Attributes
    ----------
    batches
        Inputs and targets of the next replay.
    outputs : (steps, units, batch)
        Outputs of the last replay.
    gradient : (n,)
        Gradient of the last batch. Updates overwrite it.
    squared_norms : (steps,)
        Squared norm of each gradient, before regularization.
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
        self._step_scalars = np.empty(
            (updates.optimizer.scalar_count if updates else 0, steps), dtype
        )
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
        """Record the forward and the backward pass of one batch."""
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
        """Record dL/dz of the last layer, (units, batch), averaged over rows, and return it."""
        tape, outputs, targets = self._tape, self.outputs[step], self.batches.targets[step]
        delta = tape.buffer(outputs)
        loss.record_gradient(tape, outputs, targets, delta)
        if loss.required_activation is None:
            through_activation(delta)
        scale = loss.row_scale(len(outputs)) / self.batch
        tape.add(np.multiply, delta, scalar(scale, tape.dtype), delta)
        return delta

    def _record_update(self, updates: UpdateStep, vectors: Vectors, step: int) -> None:
        """Record the optimizer in blocks, so that they stay in cache."""
        step_scalars = tuple(row[step : step + 1].reshape(()) for row in self._step_scalars)
        for start in range(0, self.gradient.size, BLOCK):
            block = slice(start, start + BLOCK)
            part = Vectors(
                vectors.parameters[block],
                vectors.gradient[block],
                vectors.scratch[block],
                vectors.decayed[block],
            )
            updates.optimizer.record(
                self._tape, part, updates.optimizer_state[:, block], step_scalars
            )
        if updates.snapshots is not None:
            self._tape.add(np.copyto, updates.snapshots[step], vectors.parameters)

    def schedule(self, learning_rates: Array, steps: Array) -> None:
        """Set the learning rates and the step numbers of the first steps of the next replay.

        Parameters
        ----------
        learning_rates, steps : (steps,)
            Step numbers are counted from 1.
        """
        if self._optimizer is not None:
            step_scalars = self._optimizer.step_scalars(learning_rates, steps)
            for row, values in zip(self._step_scalars, step_scalars, strict=True):
                row[: len(steps)] = values

    def draw_masks(self, generator: np.random.Generator, first: int, last: int) -> None:
        """Draw the dropout masks of steps ``first`` (inclusive) to ``last`` (exclusive)."""
        self._tape.draw_masks(generator, first, last)

    def disable_dropout(self) -> None:
        """Set the dropout masks to ones, as in inference."""
        for masks, _ in self._tape.masks:
            masks.fill(1.0)

    def replay(self, steps: int) -> None:
        """Run the first ``steps`` batches."""
        self._tape.replay(steps)


def _ones_at_weights(network: Network) -> Array:
    """Return a vector, (n,), with 1 for weights and 0 for biases."""
    flat = np.ones_like(network.parameters)
    for _, matrix in network.dense(flat):
        matrix[-1] = 0.0
    return flat
