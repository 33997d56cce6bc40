"""Configuration of a training run."""

from dataclasses import dataclass, field
from typing import final

from core.configuration import require
from core.losses import Loss
from core.optimizers import Optimizer
from core.regularization import Regularization
from core.schedules import Constant, Schedule


@final
@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stops after ``patience`` epochs without an improvement by more than ``min_delta``."""

    patience: int = 20
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        require("patience", self.patience, low=1)
        require("min_delta", self.min_delta, low=0.0)


@final
@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Configuration of a training run.

    Attributes
    ----------
    epochs
        Maximum number of passes over the training rows.
    batch_size
        Rows per step. The last batch of an epoch may be smaller.
    loss
        The loss to minimize.
    optimizer
        The update rule.
    schedule
        Learning rate per epoch.
    regularization
        Changes to the gradient before the optimizer.
    early_stopping
        If set, the weights of the best epoch are the result. Otherwise those of the last epoch are.
    shuffle
        If True, rows are shuffled in each epoch. It has no effect if one batch has all rows.
    seed
        Seed of shuffling and dropout.
    target_loss
        Stop when the monitored loss is at most this. The result is the weights that reached it.
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
