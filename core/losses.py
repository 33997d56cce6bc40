"""Losses: each equation, and its gradient as recorded calls.

A loss is a sum over elements, scaled per row: cross-entropy adds a row's elements up, the others
average them. `elements` is the equation; `record_gradient` its derivative on a tape.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np

from core.arrays import Array
from core.configuration import require
from core.errors import ConfigurationError
from core.tape import Tape, scalar


class Loss(ABC):
    """How far outputs are from targets.

    Attributes
    ----------
    averages_outputs
        Whether a row's loss is the mean, not the sum, over its outputs.
    after
        The only last activation whose outputs the equation is made for; None where any will do.
        With it, `record_gradient` goes through the activation too: dL/dz is outputs - targets.
    over_distributions
        Whether each row of targets must sum to 1.
    """

    type: ClassVar[str]
    averages_outputs: ClassVar[bool] = True
    after: ClassVar[str | None] = None
    over_distributions: ClassVar[bool] = False

    @abstractmethod
    def elements(self, outputs: Array, targets: Array) -> Array:
        """Return the loss of every element; the layout of the arrays does not matter."""

    @abstractmethod
    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        """Record gradient <- d elements / d outputs, or d / dz; the rows are not averaged yet."""

    def value(self, outputs: Array, targets: Array) -> float:
        """Return the mean loss of the rows.

        Parameters
        ----------
        outputs
            (rows, units)
        targets
            (rows, units), or for cross-entropy the (rows,) class indices.
        """
        rows, units = outputs.shape
        dense = one_hot(targets, units, outputs.dtype) if targets.ndim == 1 else targets
        total = self.elements(outputs, dense).sum(dtype=np.float64)
        return float(total / rows * self.row_scale(units))

    def row_scale(self, units: int) -> float:
        """Return the weight of one element within its row."""
        return 1.0 / units if self.averages_outputs else 1.0

    def check_targets(self, targets: Array, units: int) -> None:
        """Refuse classes that there are not, and what must be a probability and is none."""
        problem = None
        if targets.ndim == 1:
            classes = max(units, 2)
            if targets.min(initial=0) < 0 or targets.max(initial=0) >= classes:
                problem = f"{self.type} over {units} outputs needs classes from 0 to {classes - 1}"
        elif self.after is not None and not ((targets >= 0.0) & (targets <= 1.0)).all():
            problem = f"{self.type} needs targets from 0 to 1"
        elif self.over_distributions and not np.allclose(targets.sum(axis=1), 1.0, atol=1e-3):
            problem = f"{self.type} needs targets that sum to 1"
        if problem is not None:
            raise ConfigurationError(problem, path=("loss",))

    def check_output(self, activation: str) -> None:
        """Refuse a last activation whose outputs the equation is not made for."""
        if self.after is not None and activation != self.after:
            problem = f"{self.type} needs a last layer with {self.after}, this one has {activation}"
            raise ConfigurationError(problem, path=("loss",))


def one_hot(indices: Array, units: int, dtype: object) -> Array:
    """Return (rows, units) with a one at each row's class; one unit holds the class itself."""
    if units == 1:
        return indices.astype(dtype).reshape(-1, 1)  # type: ignore[no-any-return, call-overload]
    encoded = np.zeros((len(indices), units), dtype)  # type: ignore[call-overload]
    encoded[np.arange(len(indices)), indices] = 1.0
    return encoded  # type: ignore[no-any-return]


@final
@dataclass(frozen=True, slots=True)
class CrossEntropy(Loss):
    """-sum_j y_j log p_j over a softmax; with it, dL/dz = p - y (Bishop, 2006, 4.3.4)."""

    type: ClassVar[str] = "cross_entropy"
    averages_outputs: ClassVar[bool] = False
    after: ClassVar[str | None] = "softmax"
    over_distributions: ClassVar[bool] = True

    def elements(self, outputs: Array, targets: Array) -> Array:
        # A probability that underflowed to zero counts as the smallest normal number.
        logarithms = np.log(np.maximum(outputs, np.finfo(outputs.dtype).tiny))
        return np.asarray(-targets * logarithms)

    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        tape.add(np.subtract, outputs, targets, gradient)


@final
@dataclass(frozen=True, slots=True)
class BinaryCrossEntropy(Loss):
    """-y log p - (1 - y) log(1 - p), the mean over independent sigmoids; dL/dz = p - y."""

    type: ClassVar[str] = "binary_cross_entropy"
    after: ClassVar[str | None] = "sigmoid"

    def elements(self, outputs: Array, targets: Array) -> Array:
        limits = np.finfo(outputs.dtype)
        hit = targets * np.log(np.maximum(outputs, limits.tiny))
        # Next to 1 there are no numbers closer than epsneg; a p that was rounded to 1 was closer
        # than half of it.
        miss = (1.0 - targets) * np.log(np.maximum(1.0 - outputs, limits.epsneg / 2))
        return np.asarray(-hit - miss)

    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        tape.add(np.subtract, outputs, targets, gradient)


@final
@dataclass(frozen=True, slots=True)
class MeanSquaredError(Loss):
    """(p - y)^2, the mean over outputs; its derivative is 2 (p - y)."""

    type: ClassVar[str] = "mse"

    def elements(self, outputs: Array, targets: Array) -> Array:
        return np.asarray(np.square(outputs - targets))

    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        tape.add(np.subtract, outputs, targets, gradient)
        tape.add(np.add, gradient, gradient, gradient)


@final
@dataclass(frozen=True, slots=True)
class MeanAbsoluteError(Loss):
    """|p - y|, the mean over outputs; its derivative is the sign of p - y."""

    type: ClassVar[str] = "mae"

    def elements(self, outputs: Array, targets: Array) -> Array:
        return np.asarray(np.abs(outputs - targets))

    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        tape.add(np.subtract, outputs, targets, gradient)
        tape.add(np.sign, gradient, gradient)


@final
@dataclass(frozen=True, slots=True)
class Huber(Loss):
    """Squared near zero, straight beyond ``delta`` (Huber, 1964).

    With e = p - y: e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2). Its derivative is e,
    clipped to [-delta, delta].
    """

    type: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        require("delta", self.delta, low=1e-6)

    def elements(self, outputs: Array, targets: Array) -> Array:
        distance = np.abs(outputs - targets)
        near = np.minimum(distance, outputs.dtype.type(self.delta))
        return np.asarray(near * (distance - 0.5 * near))

    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        low, high = scalar(-self.delta, tape.dtype), scalar(self.delta, tape.dtype)
        tape.add(np.subtract, outputs, targets, gradient)
        tape.add(np.clip, gradient, low, high, gradient)


LOSSES: Final[dict[str, type[Loss]]] = {
    part.type: part
    for part in (CrossEntropy, BinaryCrossEntropy, MeanSquaredError, MeanAbsoluteError, Huber)
}
