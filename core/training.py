"""The one training loop, as an iterator of epochs whose whole state can be saved."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple, final

import numpy as np

from core import tensors
from core.arrays import Array
from core.batches import Rows
from core.configuration import require
from core.errors import DivergedError, FormatError, ShapeError
from core.losses import Loss
from core.metrics import class_indices
from core.network import Network
from core.optimizers import Optimizer
from core.program import Program, Regularization, Updates, is_wide
from core.schedules import Constant, Schedule

LAP_BYTES: Final = 4 << 20
"""About what the inputs, targets, outputs and masks of one replay may take."""

LONGEST_LAP: Final = 256
"""Batches in one replay: beyond, a longer list gains nothing."""

STATE_FORMAT: Final = "neurond-trainer-2"
"""Another than 1, where vectors were laid out otherwise."""

VALIDATION_ROWS: Final = 4096
"""Rows of the validation set that go forward at once."""


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stop after ``patience`` epochs without an improvement by more than ``min_delta``."""

    patience: int = 20
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        require("patience", self.patience, low=1)
        require("min_delta", self.min_delta, low=0.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a network is trained.

    Attributes
    ----------
    epochs
        Times that every row is seen, at most.
    batch_size
        Rows of each step; a last, shorter batch takes what is left.
    early_stopping
        With it, the best epoch's weights are the result, else the last epoch's.
    shuffle
        Whether each epoch has an order of its own; a batch of all rows needs none.
    seed
        Of shuffling and dropout.
    target_loss
        Stop once the monitored loss is as low as this.
    """

    epochs: int
    batch_size: int
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule = field(default_factory=Constant)
    regularization: Regularization = field(default_factory=Regularization)
    early_stopping: EarlyStopping | None = None
    shuffle: bool = True
    seed: int = 0
    target_loss: float | None = None

    def __post_init__(self) -> None:
        require("epochs", self.epochs, low=1)
        require("batch_size", self.batch_size, low=1)


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


@dataclass(slots=True)
class Progress:
    """The numbers of a trainer's state; its arrays stand beside it."""

    epoch: int = 0
    step: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    epochs_since_best: int = 0
    stop_reason: str | None = None


def split(rows: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """Return which rows train and which validate, each in ascending order.

    At least one row trains; with a positive fraction at least one validates, where there are two.
    """
    if fraction <= 0.0 or rows < 2:
        return np.arange(rows), np.arange(0)
    held_out = min(max(round(rows * fraction), 1), rows - 1)
    order = np.random.Generator(np.random.SFC64([seed, rows])).permutation(rows)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


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

    Raises
    ------
    DivergedError
        From `advance`, when loss or parameters are no longer finite. The network then holds
        the parameters of the last finite epoch.
    """

    def __init__(
        self, network: Network, training: Rows, plan: Plan, validation: Rows | None = None
    ) -> None:
        plan.loss.check_output(network.output_activation)
        plan.loss.check_targets(training.targets)
        self.network, self.plan, self.validation = network, plan, validation
        self.progress = Progress()
        self.best_parameters = network.parameters.copy()
        self._rows = len(training.inputs)
        if not self._rows:
            raise ShapeError("training rows", expected=(None,), got=(0,))
        self._classifies = training.targets.ndim == 1
        self._targets = training.targets
        self._generator = np.random.Generator(np.random.SFC64(plan.seed))
        self._memory = np.zeros((plan.optimizer.memories, network.parameters.size), network.dtype)
        self._last_finite = network.parameters.copy()
        self._failure: DivergedError | None = None
        self._whole = self._rows <= plan.batch_size
        batch = min(plan.batch_size, self._rows)
        slots, rest = self._slots(batch), self._rows % batch
        self._snapshots: Array | None = None
        if self._whole and validation is None:
            self._snapshots = np.empty((slots, network.parameters.size), network.dtype)
        updates = Updates(plan.optimizer, self._memory, plan.regularization, self._snapshots)
        rows = Rows(np.ascontiguousarray(training.inputs, network.dtype), training.targets)
        self._main = Program(network, plan.loss, rows, batch, slots, updates)
        self._rest = Program(network, plan.loss, rows, rest, 1, updates) if rest else None
        if self._whole:
            for slot in range(slots):
                self._main.batches.fill(np.arange(self._rows), slot)

    def _slots(self, batch: int) -> int:
        """Return how many batches of one epoch, or epochs of one batch, to replay at once."""
        floats = 3 * sum(self.network.widths[1:])
        if not is_wide(self.network):
            floats += 2 * self.network.inputs
        each = batch * floats * self.network.dtype.itemsize
        wanted = self._rows // batch
        if self._whole:
            each += self.network.parameters.nbytes
            # A validation set is looked at after each epoch, so an epoch is then a replay.
            wanted = 1 if self.validation else self.plan.epochs
        return max(1, min(wanted, LONGEST_LAP, LAP_BYTES // each))

    def __iter__(self) -> Iterator[Epoch]:
        """Run to the end, yielding each epoch with a state that can be saved."""
        while self.progress.stop_reason is None:
            yield from self.advance(1)

    def advance(self, epochs: int) -> list[Epoch]:
        """Run up to ``epochs`` more epochs and return what they brought.

        Epochs that ended well before a divergence are returned; the next call raises.
        """
        done: list[Epoch] = []
        if self._failure is not None:
            raise self._failure
        try:
            with np.errstate(all="ignore"):  # `_close_epoch` looks for what is not finite
                while len(done) < epochs and self.progress.stop_reason is None:
                    left = min(epochs - len(done), self.plan.epochs - self.progress.epoch)
                    if self._snapshots is not None:
                        self._whole_epochs(done, min(left, self._main.slots), self._snapshots)
                    else:
                        self._epoch(done)
        except DivergedError as error:
            self._failure = error
            if not done:
                raise
        return done

    def _epoch(self, done: list[Epoch]) -> None:
        """Run one epoch, lap by lap."""
        rate = self._learning_rate(self.progress.epoch)
        shuffled = self.plan.shuffle and not self._whole
        order = self._generator.permutation(self._rows) if shuffled else np.arange(self._rows)
        loss = norms = 0.0
        hits = start = 0
        for program in (self._main, self._rest):
            while program is not None and start + program.batch <= self._rows:
                slots = min(program.slots, (self._rows - start) // program.batch)
                rows = order[start : start + slots * program.batch]
                if not self._whole:
                    program.batches.fill(rows)
                program.draw_masks(self._generator, 0, slots)
                self._replay(program, np.full(slots, rate))
                loss += float(self._losses(program, slots).sum())
                norms += float(np.sqrt(program.squared_norms[:slots]).sum())
                hits += int(self._hits(program, rows).sum()) if self._classifies else 0
                start += slots * program.batch
        batches = self._rows // self._main.batch + (self._rest is not None)
        validation_loss, validation_accuracy = self._validate()
        epoch = Epoch(
            epoch=self.progress.epoch + 1,
            train_loss=loss / self._rows,
            validation_loss=validation_loss,
            train_accuracy=hits / self._rows if self._classifies else None,
            validation_accuracy=validation_accuracy,
            learning_rate=rate,
            gradient_norm=norms / batches,
        )
        self._close_epoch(self.network.parameters, epoch)
        done.append(epoch)

    def _whole_epochs(self, done: list[Epoch], epochs: int, snapshots: Array) -> None:
        """Run several epochs of one batch each in one replay."""
        first = self.progress.epoch
        rates = [self._learning_rate(first + index) for index in range(epochs)]
        for slot in range(epochs):
            self._main.draw_masks(self._generator, slot, slot + 1)
        self._replay(self._main, np.array(rates))
        losses = (self._losses(self._main, epochs) / self._rows).tolist()
        norms = np.sqrt(self._main.squared_norms[:epochs]).tolist()
        accuracies: list[float | None] = [None] * epochs
        if self._classifies:
            everywhere = np.tile(np.arange(self._rows), epochs)
            accuracies = (self._hits(self._main, everywhere) / self._rows).tolist()
        columns = zip(losses, accuracies, rates, norms, snapshots, strict=False)
        for slot, (loss, accuracy, rate, norm, parameters) in enumerate(columns):
            epoch = Epoch(first + slot + 1, loss, None, accuracy, None, rate, norm)
            self._close_epoch(parameters, epoch)
            done.append(epoch)
            if self.progress.stop_reason is not None:
                self.network.parameters[:] = parameters
                break

    def _learning_rate(self, epoch: int) -> float:
        return self.plan.schedule.learning_rate(
            self.plan.optimizer.learning_rate, epoch, self.plan.epochs
        )

    def _replay(self, program: Program, rates: Array) -> None:
        """Run as many slots as there are rates."""
        step = self.progress.step
        program.schedule(rates, np.arange(step + 1, step + 1 + len(rates)))
        program.replay(len(rates))
        self.progress.step += len(rates)

    def _losses(self, program: Program, slots: int) -> Array:
        """Return the sum of the rows' losses, slot by slot."""
        elements = self.plan.loss.elements(program.outputs[:slots], program.batches.targets[:slots])
        share = self.plan.loss.row_scale(self.network.units)
        return np.asarray(elements.sum(axis=(1, 2), dtype=np.float64) * share)

    def _hits(self, program: Program, rows: Array) -> Array:
        """Return how many of the rows were classified right, slot by slot."""
        actual = self._targets[rows].reshape(-1, program.batch)
        outputs = program.outputs[: len(actual)]
        predicted = outputs[:, 0] > 0.5 if self.network.units == 1 else outputs.argmax(axis=1)
        return np.asarray((predicted == actual).sum(axis=1))

    def _validate(self) -> tuple[float | None, float | None]:
        """Return loss and accuracy on the validation set."""
        if self.validation is None:
            return None, None
        inputs, targets = self.validation
        loss = hits = 0.0
        for start in range(0, len(inputs), VALIDATION_ROWS):
            part = slice(start, start + VALIDATION_ROWS)
            outputs = self.network.forward(inputs[part])
            loss += self.plan.loss.value(outputs, targets[part]) * len(outputs)
            if self._classifies:
                hits += float(np.sum(class_indices(outputs) == targets[part]))
        return loss / len(inputs), hits / len(inputs) if self._classifies else None

    def _close_epoch(self, parameters: Array, epoch: Epoch) -> None:
        """Take an epoch's end into the state, or refuse it when it is not finite."""
        progress, plan = self.progress, self.plan
        monitored = epoch.train_loss if epoch.validation_loss is None else epoch.validation_loss
        finite = math.isfinite(epoch.train_loss) and math.isfinite(monitored)
        if not (finite and np.isfinite(parameters).all()):
            self.network.parameters[:] = self._last_finite
            raise DivergedError(epoch=epoch.epoch, loss=monitored)
        self._last_finite[:] = parameters
        progress.epoch = epoch.epoch
        min_delta = plan.early_stopping.min_delta if plan.early_stopping else 0.0
        if monitored < progress.best_loss - min_delta:
            progress.best_loss, progress.best_epoch = monitored, epoch.epoch
            progress.epochs_since_best = 0
            self.best_parameters[:] = parameters
        else:
            progress.epochs_since_best += 1
        if plan.target_loss is not None and monitored <= plan.target_loss:
            progress.stop_reason = "target_reached"
        elif plan.early_stopping and progress.epochs_since_best >= plan.early_stopping.patience:
            progress.stop_reason = "early_stopped"
        elif epoch.epoch >= plan.epochs:
            progress.stop_reason = "epochs_done"

    def result(self) -> Array:
        """Return the parameters that the training is for: the best with early stopping."""
        return self.best_parameters if self.plan.early_stopping else self.network.parameters

    def state(self) -> bytes:
        """Return everything that `restore` needs, as bytes that are equal for equal states."""
        arrays = {
            "parameters": self.network.parameters,
            "best_parameters": self.best_parameters,
            "memory": self._memory,
        }
        numbers = asdict(self.progress)
        if math.isinf(numbers["best_loss"]):
            numbers["best_loss"] = None
        metadata = {
            "format": STATE_FORMAT,
            "progress": json.dumps(numbers),
            "generator": json.dumps(self._generator.bit_generator.state, default=_as_list),
        }
        return tensors.encode(arrays, metadata)

    def restore(self, state: bytes) -> None:
        """Go back to a saved state of a trainer that was made with the same arguments."""
        arrays, metadata = read_state(state)
        homes = {
            "parameters": self.network.parameters,
            "best_parameters": self.best_parameters,
            "memory": self._memory,
        }
        for name, home in homes.items():
            if arrays[name].shape != home.shape or arrays[name].dtype != home.dtype:
                raise ShapeError(name, expected=home.shape, got=arrays[name].shape)
            home[:] = arrays[name]
        self._last_finite[:] = self.network.parameters
        numbers: dict[str, Any] = json.loads(metadata["progress"])
        if numbers["best_loss"] is None:
            numbers["best_loss"] = math.inf
        self.progress = Progress(**numbers)
        generator = json.loads(metadata["generator"])
        generator["state"]["state"] = np.array(generator["state"]["state"], np.uint64)
        self._generator.bit_generator.state = generator


def read_state(state: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of what `Trainer.state` gave.

    Raises
    ------
    FormatError
        When the bytes are something else, or of another version.
    """
    arrays, metadata = tensors.decode(state)
    if metadata.get("format") != STATE_FORMAT:
        raise FormatError("these bytes are no trainer's state, or one of another version")
    return arrays, metadata


def _as_list(array: Array) -> list[int]:
    """Let JSON take the generator's array of words."""
    return array.tolist()  # type: ignore[no-any-return]
