"""The training loop, an iterator over epochs whose state can be saved and restored."""

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, final

import numpy as np

from core.arrays import Array
from core.batches import Rows
from core.errors import DivergedError, ShapeError
from core.network import Network
from core.program import Program, UpdateStep, is_row_major, pack_rows_for
from core.trainer_state import Epoch, Progress, decode_state, encode_state
from core.training_config import TrainingConfig
from core.validation import evaluate

MAX_CHUNK_BYTES: Final = 4 << 20
"""Approximate memory for the inputs, targets, outputs and masks of one replay."""

MAX_CHUNK_STEPS: Final = 128
"""Maximum number of batches per replay. A longer list is not faster."""


class _RollbackPoint(NamedTuple):
    """A state to return to if some of the steps that ran do not count."""

    parameters: Array
    optimizer_state: Array
    step: int
    generator: dict[str, Any]


@final
class Trainer:
    """Trains a network in place, epoch by epoch.

    ``for epoch in trainer`` runs until training stops. `advance` runs a number of epochs, and is
    faster if several epochs fit into one replay. Between epochs, `state` is the complete state: a
    trainer with the same arguments that restores it continues bit-for-bit.

    Parameters
    ----------
    network
        The network to train in place.
    training
        Preprocessed inputs, (rows, inputs), and targets.
    config
        How to train.
    validation
        Rows for validation after each epoch, with inputs of shape (rows, inputs).

    Attributes
    ----------
    training, validation
        The rows in the network's dtype. The caller's rows may be released.
    progress
        The scalars of the state.
    best_parameters : (n,)
        The parameters with the lowest monitored loss.

    Raises
    ------
    ConfigurationError
        If the loss does not support the output activation or the targets.
    ShapeError
        If the training set is empty.
    DivergedError
        From `advance`, if loss, gradient or parameters are not finite. The network then has the
        parameters of the last finite epoch.
    """

    def __init__(
        self,
        network: Network,
        training: Rows,
        config: TrainingConfig,
        validation: Rows | None = None,
    ) -> None:
        config.loss.check_output(network.output_activation)
        if not len(training.inputs):
            raise ShapeError("training rows", expected=(None,), got=(0,))
        if validation is not None and not len(validation.inputs):
            validation = None
        for rows in (training, validation) if validation else (training,):
            config.loss.check_targets(rows.targets, network.units)
        packed = pack_rows_for(network, training)
        self.network, self.config = network, config
        self.training = Rows(packed.inputs[:, : network.inputs], packed.targets)
        self.validation = validation and Rows(
            np.ascontiguousarray(validation.inputs, network.dtype), validation.targets
        )
        self.progress = Progress()
        self.best_parameters = network.parameters.copy()
        self._rows = len(training.inputs)
        self._is_classification = training.targets.ndim == 1
        self._generator = np.random.Generator(np.random.SFC64(config.seed))
        self._optimizer_state = np.zeros(
            (config.optimizer.state_size, network.parameters.size), network.dtype
        )
        self._full_batch = self._rows <= config.batch_size
        batch = min(config.batch_size, self._rows)
        steps, remainder = self._step_capacity(batch), self._rows % batch
        self._snapshots: Array | None = None
        if self._full_batch and validation is None:
            self._snapshots = np.empty((steps, network.parameters.size), network.dtype)
        updates = UpdateStep(
            config.optimizer, self._optimizer_state, config.regularization, self._snapshots
        )
        self._rollback_point = _RollbackPoint(
            network.parameters.copy(), self._optimizer_state.copy(), 0, {}
        )
        self._main_program = Program(network, config.loss, packed, batch, steps, updates)
        self._remainder_program = (
            Program(network, config.loss, packed, remainder, 1, updates) if remainder else None
        )
        if self._full_batch:
            for step in range(steps):
                self._main_program.batches.fill(np.arange(self._rows), step)

    def _step_capacity(self, batch: int) -> int:
        """Return the number of steps per replay: batches of an epoch, or epochs of one batch."""
        values_per_row = 3 * sum(self.network.widths[1:])
        if not is_row_major(self.network):
            values_per_row += self.network.inputs
        bytes_per_step = batch * values_per_row * self.network.dtype.itemsize
        steps = self._rows // batch
        if self._full_batch:
            bytes_per_step += self.network.parameters.nbytes
            # Validation runs after each epoch, so a replay is then one epoch.
            steps = 1 if self.validation else self.config.epochs
        return max(1, min(steps, MAX_CHUNK_STEPS, MAX_CHUNK_BYTES // bytes_per_step))

    def __iter__(self) -> Iterator[Epoch]:
        """Run until training stops, yielding each epoch. The state can be saved after each one."""
        while self.progress.stop_reason is None:
            yield from self.advance(1)

    def advance(self, epochs: int) -> list[Epoch]:
        """Run at most ``epochs`` more epochs and return their metrics.

        Epochs that were completed before a divergence are returned. The next call raises.

        Raises
        ------
        DivergedError
            If the first of these epochs diverges.
        """
        done: list[Epoch] = []
        try:
            with np.errstate(all="ignore"):  # non-finite values are detected after each chunk
                while len(done) < epochs and self.progress.stop_reason is None:
                    remaining = min(epochs - len(done), self.config.epochs - self.progress.epoch)
                    if self._snapshots is not None:
                        self._run_full_batch_epochs(
                            done, min(remaining, self._main_program.steps), self._snapshots
                        )
                    else:
                        self._run_epoch(done)
        except DivergedError:
            self._roll_back()
            if not done:
                raise
        return done

    def _run_epoch(self, done: list[Epoch]) -> None:
        """Run one epoch in chunks."""
        self._save_rollback_point()
        rate = self._learning_rate(self.progress.epoch)
        shuffled = self.config.shuffle and not self._full_batch
        order = self._generator.permutation(self._rows) if shuffled else np.arange(self._rows)
        loss = norms = 0.0
        correct = start = 0
        for program in (self._main_program, self._remainder_program):
            while program is not None and start + program.batch <= self._rows:
                steps = min(program.steps, (self._rows - start) // program.batch)
                rows = order[start : start + steps * program.batch]
                if not self._full_batch:
                    program.batches.fill(rows)
                program.draw_masks(self._generator, 0, steps)
                self._replay(program, np.full(steps, rate))
                loss += float(self._losses(program, steps).sum())
                norms += float(np.sqrt(program.squared_norms[:steps]).sum())
                correct += int(self._correct(program, rows).sum()) if self._is_classification else 0
                start += steps * program.batch
        batches = self._rows // self._main_program.batch + (self._remainder_program is not None)
        validation_loss = validation_accuracy = None
        if self.validation is not None:
            validation_loss, validation_accuracy = evaluate(
                self.network, self.config.loss, self.validation
            )
        epoch = Epoch(
            epoch=self.progress.epoch + 1,
            train_loss=loss / self._rows,
            validation_loss=validation_loss,
            train_accuracy=correct / self._rows if self._is_classification else None,
            validation_accuracy=validation_accuracy,
            learning_rate=rate,
            gradient_norm=norms / batches,
        )
        monitored = epoch.train_loss if validation_loss is None else validation_loss
        reported = (epoch.train_loss, monitored, epoch.gradient_norm)
        if not (all(map(math.isfinite, reported)) and np.isfinite(self.network.parameters).all()):
            raise DivergedError(epoch=epoch.epoch, loss=monitored)
        if self._finish_epoch(epoch, monitored):
            self.best_parameters[:] = self.network.parameters
        done.append(epoch)

    def _run_full_batch_epochs(self, done: list[Epoch], epochs: int, snapshots: Array) -> None:
        """Run several epochs of one batch each in one replay.

        The loss of a batch belongs to the parameters before its step.
        """
        self._save_rollback_point()
        first = self.progress.epoch
        rates = [self._learning_rate(first + index) for index in range(epochs)]
        self._train_chunk(rates)
        losses = self._losses(self._main_program, epochs) / self._rows
        norms = np.sqrt(self._main_program.squared_norms[:epochs])
        finite = np.isfinite(snapshots[:epochs]).all(axis=1) & np.isfinite(losses + norms)
        finite_steps = epochs if finite.all() else int(finite.argmin())
        if not finite_steps:
            raise DivergedError(epoch=first + 1, loss=float(losses[0]))
        accuracies: list[float | None] = [None] * epochs
        if self._is_classification:
            rows = np.tile(np.arange(self._rows), epochs)
            accuracies = (self._correct(self._main_program, rows) / self._rows).tolist()
        columns = (losses[:finite_steps].tolist(), accuracies, rates, norms.tolist())
        best = None
        for step, (loss, accuracy, rate, norm) in enumerate(zip(*columns, strict=False)):
            epoch = Epoch(first + step + 1, loss, None, accuracy, None, rate, norm)
            if self._finish_epoch(epoch, loss):
                best = step
            done.append(epoch)
            if self.progress.stop_reason is not None:
                break
        if best is not None:
            self.best_parameters[:] = (
                snapshots[best - 1] if best else self._rollback_point.parameters
            )
        completed = self.progress.epoch - first
        if completed < epochs:
            # Repeat only the counted epochs. If the next one diverged, it starts the next chunk.
            self._roll_back()
            self._train_chunk(rates[:completed])

    def _train_chunk(self, rates: list[float]) -> None:
        """Run one epoch of one batch for each learning rate."""
        for step in range(len(rates)):
            self._main_program.draw_masks(self._generator, step, step + 1)
        self._replay(self._main_program, np.array(rates))

    def _save_rollback_point(self) -> None:
        """Save the state for `_roll_back`."""
        np.copyto(self._rollback_point.parameters, self.network.parameters)
        np.copyto(self._rollback_point.optimizer_state, self._optimizer_state)
        generator = dict(self._generator.bit_generator.state)
        self._rollback_point = self._rollback_point._replace(
            step=self.progress.step, generator=generator
        )

    def _roll_back(self) -> None:
        """Undo the steps since the rollback point. The progress of finished epochs remains."""
        self.network.parameters[:] = self._rollback_point.parameters
        self._optimizer_state[:] = self._rollback_point.optimizer_state
        self.progress.step = self._rollback_point.step
        self._generator.bit_generator.state = self._rollback_point.generator

    def _learning_rate(self, epoch: int) -> float:
        return self.config.schedule.learning_rate(
            self.config.optimizer.learning_rate, epoch, self.config.epochs
        )

    def _replay(self, program: Program, rates: Array) -> None:
        """Run one step for each learning rate."""
        step = self.progress.step
        program.schedule(rates, np.arange(step + 1, step + 1 + len(rates)))
        program.replay(len(rates))
        self.progress.step += len(rates)

    def _losses(self, program: Program, steps: int) -> Array:
        """Return the sum of the rows' losses for each step, (steps,)."""
        elements = self.config.loss.elements(
            program.outputs[:steps], program.batches.targets[:steps]
        )
        scale = self.config.loss.row_scale(self.network.units)
        return np.asarray(elements.sum(axis=(1, 2), dtype=np.float64) * scale)

    def _correct(self, program: Program, rows: Array) -> Array:
        """Return the number of correctly classified rows for each step, (steps,)."""
        actual = self.training.targets[rows].reshape(-1, program.batch)
        outputs = program.outputs[: len(actual)]
        predicted = outputs[:, 0] > 0.5 if self.network.units == 1 else outputs.argmax(axis=1)
        return np.asarray((predicted == actual).sum(axis=1))

    def _finish_epoch(self, epoch: Epoch, monitored: float) -> bool:
        """Update the progress after an epoch. Return True if the epoch is the best so far."""
        progress, config = self.progress, self.config
        progress.epoch = epoch.epoch
        best = monitored < progress.best_loss
        if best:
            progress.best_loss, progress.best_epoch = monitored, epoch.epoch
        min_delta = config.early_stopping.min_delta if config.early_stopping else 0.0
        if monitored < progress.patience_loss - min_delta:
            progress.patience_loss, progress.epochs_waited = monitored, 0
        else:
            progress.epochs_waited += 1
        if config.target_loss is not None and monitored <= config.target_loss:
            progress.stop_reason = "target_reached"
        elif config.early_stopping and progress.epochs_waited >= config.early_stopping.patience:
            progress.stop_reason = "early_stopped"
        elif epoch.epoch >= config.epochs:
            progress.stop_reason = "epochs_done"
        return best

    def result(self) -> Array:
        """Return the parameters that training produced, (n,).

        With early stopping these are the best parameters. If the target loss was reached, they are
        those that reached it. Otherwise they are the last ones.
        """
        reached = self.progress.stop_reason == "target_reached"
        best = reached or self.config.early_stopping is not None
        return self.best_parameters if best else self.network.parameters

    def state(self) -> bytes:
        """Return the complete state for `restore`. Equal states give equal bytes."""
        return encode_state(self.progress, self._arrays(), self._generator)

    def restore(self, state: bytes) -> None:
        """Restore the state of a trainer with the same arguments.

        Raises
        ------
        FormatError, ShapeError
            If ``state`` is not a state of such a trainer.
        """
        self.progress = decode_state(state, self._arrays(), self._generator)

    def _arrays(self) -> dict[str, Array]:
        return {
            "parameters": self.network.parameters,
            "best_parameters": self.best_parameters,
            "memory": self._optimizer_state,  # the name is part of the stored format
        }
