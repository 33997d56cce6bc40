"""The one training loop, as an iterator of epochs whose whole state can be saved."""

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, final

import numpy as np

from core.arrays import Array
from core.batches import Rows
from core.errors import DivergedError, ShapeError
from core.metrics import class_indices
from core.network import Network
from core.program import Program, UpdateStep, is_row_major, pack_rows_for
from core.trainer_state import Progress, decoded, encoded
from core.training_config import TrainingConfig

MAX_CHUNK_BYTES: Final = 4 << 20
"""About what the inputs, targets, outputs and masks of one replay may take."""

MAX_CHUNK_STEPS: Final = 128
"""Batches in one replay: beyond, a longer list gains nothing."""

VALIDATION_ROWS: Final = 4096
"""Rows of the validation set that go forward at once."""


class Epoch(NamedTuple):
    """What one epoch brought.

    Attributes
    ----------
    epoch
        Counted from 1.
    train_loss, train_accuracy
        Over the batches as they were trained on, with the weights moving and dropout on.
    validation_loss, validation_accuracy
        After the epoch, dropout off; None without a validation set. Accuracies are None for
        regression.
    gradient_norm
        Mean Euclidean norm over the batches, before the update.
    """

    epoch: int
    train_loss: float
    validation_loss: float | None
    train_accuracy: float | None
    validation_accuracy: float | None
    learning_rate: float
    gradient_norm: float


def split(rows: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """Return which rows train and which validate, each in ascending order.

    At least one row trains; with a positive fraction at least one validates, where there are two.
    """
    if fraction <= 0.0 or rows < 2:
        return np.arange(rows), np.arange(0)
    held_out = min(max(round(rows * fraction), 1), rows - 1)
    order = np.random.Generator(np.random.SFC64([seed, rows])).permutation(rows)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


class _RollbackPoint(NamedTuple):
    """A state to go back to, where more was run than counts."""

    parameters: Array
    memory: Array
    step: int
    generator: dict[str, Any]


@final
class Trainer:
    """Trains a network in place, epoch by epoch.

    ``for epoch in trainer`` runs to the end; `advance` runs a number of epochs, faster where
    whole epochs fit in one replay. After either, `state` is all there is to know: a trainer
    made alike, given it by `restore`, goes on to the same bits.

    Parameters
    ----------
    network
        Trained in place.
    training
        The rows to learn.
    plan
        How.
    validation
        Rows held out, looked at after each epoch.

    Attributes
    ----------
    training, validation
        The rows as they are held, in the network's dtype; callers need not keep theirs.

    Raises
    ------
    DivergedError
        From `advance`, when loss or parameters are no longer finite. The network then holds
        the parameters of the last finite epoch.
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
        self._classifies = training.targets.ndim == 1
        self._generator = np.random.Generator(np.random.SFC64(config.seed))
        self._memory = np.zeros(
            (config.optimizer.state_size, network.parameters.size), network.dtype
        )
        self._whole = self._rows <= config.batch_size
        batch = min(config.batch_size, self._rows)
        steps, rest = self._step_capacity(batch), self._rows % batch
        self._snapshots: Array | None = None
        if self._whole and validation is None:
            self._snapshots = np.empty((steps, network.parameters.size), network.dtype)
        updates = UpdateStep(config.optimizer, self._memory, config.regularization, self._snapshots)
        self._mark = _RollbackPoint(network.parameters.copy(), self._memory.copy(), 0, {})
        self._main = Program(network, config.loss, packed, batch, steps, updates)
        self._rest = Program(network, config.loss, packed, rest, 1, updates) if rest else None
        if self._whole:
            for step in range(steps):
                self._main.batches.fill(np.arange(self._rows), step)

    def _step_capacity(self, batch: int) -> int:
        """Return how many batches of one epoch, or epochs of one batch, to replay at once."""
        floats = 3 * sum(self.network.widths[1:])
        if not is_row_major(self.network):
            floats += self.network.inputs
        each = batch * floats * self.network.dtype.itemsize
        wanted = self._rows // batch
        if self._whole:
            each += self.network.parameters.nbytes
            # A validation set is looked at after each epoch, so an epoch is then a replay.
            wanted = 1 if self.validation else self.config.epochs
        return max(1, min(wanted, MAX_CHUNK_STEPS, MAX_CHUNK_BYTES // each))

    def __iter__(self) -> Iterator[Epoch]:
        """Run to the end, yielding each epoch with a state that can be saved."""
        while self.progress.stop_reason is None:
            yield from self.advance(1)

    def advance(self, epochs: int) -> list[Epoch]:
        """Run up to ``epochs`` more epochs and return what they brought.

        Epochs that ended well before a divergence are returned; the next call raises.
        """
        done: list[Epoch] = []
        try:
            with np.errstate(all="ignore"):  # what is not finite is looked for after each lap
                while len(done) < epochs and self.progress.stop_reason is None:
                    left = min(epochs - len(done), self.config.epochs - self.progress.epoch)
                    if self._snapshots is not None:
                        self._whole_epochs(done, min(left, self._main.steps), self._snapshots)
                    else:
                        self._epoch(done)
        except DivergedError:
            self._roll_back()
            if not done:
                raise
        return done

    def _epoch(self, done: list[Epoch]) -> None:
        """Run one epoch, lap by lap."""
        self._save_rollback_point()
        rate = self._learning_rate(self.progress.epoch)
        shuffled = self.config.shuffle and not self._whole
        order = self._generator.permutation(self._rows) if shuffled else np.arange(self._rows)
        loss = norms = 0.0
        correct = start = 0
        for program in (self._main, self._rest):
            while program is not None and start + program.batch <= self._rows:
                steps = min(program.steps, (self._rows - start) // program.batch)
                rows = order[start : start + steps * program.batch]
                if not self._whole:
                    program.batches.fill(rows)
                program.draw_masks(self._generator, 0, steps)
                self._replay(program, np.full(steps, rate))
                loss += float(self._losses(program, steps).sum())
                norms += float(np.sqrt(program.squared_norms[:steps]).sum())
                correct += int(self._correct(program, rows).sum()) if self._classifies else 0
                start += steps * program.batch
        batches = self._rows // self._main.batch + (self._rest is not None)
        validation_loss, validation_accuracy = self._validate()
        epoch = Epoch(
            epoch=self.progress.epoch + 1,
            train_loss=loss / self._rows,
            validation_loss=validation_loss,
            train_accuracy=correct / self._rows if self._classifies else None,
            validation_accuracy=validation_accuracy,
            learning_rate=rate,
            gradient_norm=norms / batches,
        )
        monitored = epoch.train_loss if validation_loss is None else validation_loss
        numbers = (epoch.train_loss, monitored, epoch.gradient_norm)
        if not (all(map(math.isfinite, numbers)) and np.isfinite(self.network.parameters).all()):
            raise DivergedError(epoch=epoch.epoch, loss=monitored)
        if self._finish_epoch(epoch, monitored):
            self.best_parameters[:] = self.network.parameters
        done.append(epoch)

    def _whole_epochs(self, done: list[Epoch], epochs: int, snapshots: Array) -> None:
        """Run several epochs of one batch each in one replay.

        A batch of all rows tells the loss of the parameters before its step.
        """
        self._save_rollback_point()
        first = self.progress.epoch
        rates = [self._learning_rate(first + index) for index in range(epochs)]
        self._train_chunk(rates)
        losses = self._losses(self._main, epochs) / self._rows
        norms = np.sqrt(self._main.squared_norms[:epochs])
        finite = np.isfinite(snapshots[:epochs]).all(axis=1) & np.isfinite(losses + norms)
        finite_steps = epochs if finite.all() else int(finite.argmin())
        if not finite_steps:
            raise DivergedError(epoch=first + 1, loss=float(losses[0]))
        accuracies: list[float | None] = [None] * epochs
        if self._classifies:
            everywhere = np.tile(np.arange(self._rows), epochs)
            accuracies = (self._correct(self._main, everywhere) / self._rows).tolist()
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
            self.best_parameters[:] = snapshots[best - 1] if best else self._mark.parameters
        ran = self.progress.epoch - first
        if ran < epochs:
            # As if no more had been run. What diverged is met again by the next lap, and first.
            self._roll_back()
            self._train_chunk(rates[:ran])

    def _train_chunk(self, rates: list[float]) -> None:
        """Run as many epochs of one batch as there are rates."""
        for step in range(len(rates)):
            self._main.draw_masks(self._generator, step, step + 1)
        self._replay(self._main, np.array(rates))

    def _save_rollback_point(self) -> None:
        """Note the state that `_roll_back` returns to."""
        np.copyto(self._mark.parameters, self.network.parameters)
        np.copyto(self._mark.memory, self._memory)
        generator = dict(self._generator.bit_generator.state)
        self._mark = self._mark._replace(step=self.progress.step, generator=generator)

    def _roll_back(self) -> None:
        """Undo what was run since the mark, but for the epochs that were closed."""
        self.network.parameters[:] = self._mark.parameters
        self._memory[:] = self._mark.memory
        self.progress.step = self._mark.step
        self._generator.bit_generator.state = self._mark.generator

    def _learning_rate(self, epoch: int) -> float:
        return self.config.schedule.learning_rate(
            self.config.optimizer.learning_rate, epoch, self.config.epochs
        )

    def _replay(self, program: Program, rates: Array) -> None:
        """Run as many slots as there are rates."""
        step = self.progress.step
        program.schedule(rates, np.arange(step + 1, step + 1 + len(rates)))
        program.replay(len(rates))
        self.progress.step += len(rates)

    def _losses(self, program: Program, steps: int) -> Array:
        """Return the sum of the rows' losses, slot by slot."""
        elements = self.config.loss.elements(
            program.outputs[:steps], program.batches.targets[:steps]
        )
        share = self.config.loss.row_scale(self.network.units)
        return np.asarray(elements.sum(axis=(1, 2), dtype=np.float64) * share)

    def _correct(self, program: Program, rows: Array) -> Array:
        """Return how many of the rows were classified right, slot by slot."""
        actual = self.training.targets[rows].reshape(-1, program.batch)
        outputs = program.outputs[: len(actual)]
        predicted = outputs[:, 0] > 0.5 if self.network.units == 1 else outputs.argmax(axis=1)
        return np.asarray((predicted == actual).sum(axis=1))

    def _validate(self) -> tuple[float | None, float | None]:
        """Return loss and accuracy on the validation set."""
        if self.validation is None:
            return None, None
        inputs, targets = self.validation
        loss = correct = 0.0
        for start in range(0, len(inputs), VALIDATION_ROWS):
            part = slice(start, start + VALIDATION_ROWS)
            outputs = self.network.forward(inputs[part])
            loss += self.config.loss.value(outputs, targets[part]) * len(outputs)
            if self._classifies:
                correct += float(np.sum(class_indices(outputs) == targets[part]))
        return loss / len(inputs), correct / len(inputs) if self._classifies else None

    def _finish_epoch(self, epoch: Epoch, monitored: float) -> bool:
        """Take an epoch's numbers into the progress; tell whether it is the best so far."""
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
        """Return the parameters that the training is for.

        The best with early stopping, those that reached the target where they did, else the last.
        """
        reached = self.progress.stop_reason == "target_reached"
        best = reached or self.config.early_stopping is not None
        return self.best_parameters if best else self.network.parameters

    def state(self) -> bytes:
        """Return everything that `restore` needs, as bytes that are equal for equal states."""
        return encoded(self.progress, self._arrays(), self._generator)

    def restore(self, state: bytes) -> None:
        """Go back to a saved state of a trainer that was made with the same arguments.

        Raises
        ------
        FormatError, ShapeError
            When it is no such state.
        """
        self.progress = decoded(state, self._arrays(), self._generator)

    def _arrays(self) -> dict[str, Array]:
        return {
            "parameters": self.network.parameters,
            "best_parameters": self.best_parameters,
            "memory": self._memory,
        }
