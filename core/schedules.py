"""Learning rate schedules."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, final

from core.configuration import require


class Schedule(ABC):
    """The learning rate as a function of the epoch."""

    type: ClassVar[str]

    @abstractmethod
    def learning_rate(self, initial: float, epoch: int, epochs: int) -> float:
        """Return the learning rate of an epoch.

        Parameters
        ----------
        initial
            The initial learning rate.
        epoch
            Index of the epoch, counted from 0.
        epochs
            Total number of epochs.
        """


@final
@dataclass(frozen=True, slots=True)
class Constant(Schedule):
    """A constant learning rate."""

    type: ClassVar[str] = "constant"

    def learning_rate(self, initial: float, epoch: int, epochs: int) -> float:
        return initial


@final
@dataclass(frozen=True, slots=True)
class Cosine(Schedule):
    """Half a cosine from the initial rate to the minimum (Loshchilov and Hutter, 2017)."""

    type: ClassVar[str] = "cosine"
    min_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        require("min_learning_rate", self.min_learning_rate, low=0.0)

    def learning_rate(self, initial: float, epoch: int, epochs: int) -> float:
        wave = 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
        return self.min_learning_rate + (initial - self.min_learning_rate) * wave


@final
@dataclass(frozen=True, slots=True)
class Step(Schedule):
    """Multiplies the rate by ``factor`` after every ``every`` epochs."""

    type: ClassVar[str] = "step"
    every: int = 100
    factor: float = 0.5

    def __post_init__(self) -> None:
        require("every", self.every, low=1)
        require("factor", self.factor, low=0.0, high=1.0)

    def learning_rate(self, initial: float, epoch: int, epochs: int) -> float:
        return initial * self.factor ** (epoch // self.every)


@final
@dataclass(frozen=True, slots=True)
class LinearDecay(Schedule):
    """Linear decay from the initial rate to the minimum."""

    type: ClassVar[str] = "linear"
    min_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        require("min_learning_rate", self.min_learning_rate, low=0.0)

    def learning_rate(self, initial: float, epoch: int, epochs: int) -> float:
        return initial + (self.min_learning_rate - initial) * epoch / epochs


@final
@dataclass(frozen=True, slots=True)
class Exponential(Schedule):
    """Multiplies the rate by ``decay`` after every epoch."""

    type: ClassVar[str] = "exponential"
    decay: float = 0.99

    def __post_init__(self) -> None:
        require("decay", self.decay, low=0.0, high=1.0)

    def learning_rate(self, initial: float, epoch: int, epochs: int) -> float:
        return initial * self.decay**epoch


@final
@dataclass(frozen=True, slots=True)
class WarmupCosine(Schedule):
    """A linear increase over the first epochs, followed by `Cosine`."""

    type: ClassVar[str] = "warmup_cosine"
    warmup_epochs: int = 5
    min_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        require("warmup_epochs", self.warmup_epochs, low=0)
        require("min_learning_rate", self.min_learning_rate, low=0.0)

    def learning_rate(self, initial: float, epoch: int, epochs: int) -> float:
        if epoch < self.warmup_epochs:
            return initial * (epoch + 1) / self.warmup_epochs
        rest = max(epochs - self.warmup_epochs, 1)
        cosine = Cosine(self.min_learning_rate)
        return cosine.learning_rate(initial, min(epoch - self.warmup_epochs, rest), rest)


SCHEDULES: Final[dict[str, type[Schedule]]] = {
    part.type: part for part in (Constant, Cosine, Step, LinearDecay, Exponential, WarmupCosine)
}
