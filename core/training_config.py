"""How a network is to be trained."""

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
    """Stop after ``patience`` epochs without an improvement by more than ``min_delta``."""

    patience: int = 20
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        require("patience", self.patience, low=1)
        require("min_delta", self.min_delta, low=0.0)


@final
@dataclass(frozen=True, slots=True)
class TrainingConfig:
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
        Stop once the monitored loss is as low as this, with the weights that reached it.
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
