"""Loss functions: the equation, and its gradient as recorded calls.

A loss is a sum over elements, scaled per row. Cross-entropy sums the elements of a row, the other
losses average them. `elements` is the equation, `record_gradient` records its derivative.
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
    """The distance between outputs and targets.

    Attributes
    ----------
    averages_outputs
        If True, the loss of a row is the mean over its outputs, otherwise the sum.
    required_activation
        The only output activation that the loss supports. None if it supports all. If it is set,
        `record_gradient` also differentiates the activation: dL/dz is outputs - targets.
    over_distributions
        If True, each row of targets must sum to 1.
    """

    type: ClassVar[str]
    averages_outputs: ClassVar[bool] = True
    required_activation: ClassVar[str | None] = None
    over_distributions: ClassVar[bool] = False

    @abstractmethod
    def elements(self, outputs: Array, targets: Array) -> Array:
        """Return the loss of every element.

        Parameters
        ----------
        outputs, targets : (...)
            Arrays of any equal shape.

        Returns
        -------
        elements
            An array of the same shape.
        """

    @abstractmethod
    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        """Record gradient <- d elements / d outputs, or d elements / dz.

        The gradient is not divided by the number of rows or outputs.

        Parameters
        ----------
        tape
            Receives the calls.
        outputs, targets, gradient : (units, batch)
            A replay overwrites ``gradient``.
        """

    def value(self, outputs: Array, targets: Array) -> float:
        """Return the mean loss over the rows.

        Parameters
        ----------
        outputs : (rows, units)
        targets : (rows, units) or (rows,)
            Values of shape (rows, units), or class indices of shape (rows,).
        """
        rows, units = outputs.shape
        dense = one_hot(targets, units, outputs.dtype) if targets.ndim == 1 else targets
        total = self.elements(outputs, dense).sum(dtype=np.float64)
        return float(total / rows * self.row_scale(units))

    def row_scale(self, units: int) -> float:
        """Return the weight of one element within its row."""
        return 1.0 / units if self.averages_outputs else 1.0

    def check_targets(self, targets: Array, units: int) -> None:
        """Raise ConfigurationError for unknown classes and for targets that are not probabilities.

        Parameters
        ----------
        targets : (rows, units) or (rows,)
            As in `value`.
        units
            Number of outputs.
        """
        problem = None
        if targets.ndim == 1:
            classes = max(units, 2)
            if targets.min(initial=0) < 0 or targets.max(initial=0) >= classes:
                problem = (
                    f"{self.type} over {units} outputs requires classes from 0 to {classes - 1}"
                )
        elif (
            self.required_activation is not None and not ((targets >= 0.0) & (targets <= 1.0)).all()
        ):
            problem = f"{self.type} requires targets from 0 to 1"
        elif self.over_distributions and not np.allclose(targets.sum(axis=1), 1.0, atol=1e-3):
            problem = f"{self.type} requires targets that sum to 1 in each row"
        if problem is not None:
            raise ConfigurationError(problem, path=("loss",))

    def check_output(self, activation: str) -> None:
        """Raise ConfigurationError if the loss does not support the output activation."""
        if self.required_activation is not None and activation != self.required_activation:
            problem = (
                f"{self.type} requires the output activation {self.required_activation}, "
                f"got {activation}"
            )
            raise ConfigurationError(problem, path=("loss",))


def one_hot(indices: Array, units: int, dtype: object) -> Array:
    """Return one-hot targets. For a single unit, return the class index itself as its target.

    Parameters
    ----------
    indices : (rows,)
        Class indices.
    units
        Number of outputs.
    dtype
        The dtype of the result.

    Returns
    -------
    targets : (rows, units)
    """
    if units == 1:
        return indices.astype(dtype).reshape(-1, 1)  # type: ignore[no-any-return, call-overload]
    encoded = np.zeros((len(indices), units), dtype)  # type: ignore[call-overload]
    encoded[np.arange(len(indices)), indices] = 1.0
    return encoded  # type: ignore[no-any-return]


@final
@dataclass(frozen=True, slots=True)
class CrossEntropy(Loss):
    """-sum_j y_j log p_j for a softmax, so dL/dz = p - y (Bishop, 2006, 4.3.4)."""

    type: ClassVar[str] = "cross_entropy"
    averages_outputs: ClassVar[bool] = False
    required_activation: ClassVar[str | None] = "softmax"
    over_distributions: ClassVar[bool] = True

    def elements(self, outputs: Array, targets: Array) -> Array:
        # A probability that underflowed to zero is replaced by the smallest normal number.
        logarithms = np.log(np.maximum(outputs, np.finfo(outputs.dtype).tiny))
        return np.asarray(-targets * logarithms)

    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        tape.add(np.subtract, outputs, targets, gradient)


@final
@dataclass(frozen=True, slots=True)
class BinaryCrossEntropy(Loss):
    """-y log p - (1 - y) log(1 - p), the mean over independent sigmoids, so dL/dz = p - y."""

    type: ClassVar[str] = "binary_cross_entropy"
    required_activation: ClassVar[str | None] = "sigmoid"

    def elements(self, outputs: Array, targets: Array) -> Array:
        limits = np.finfo(outputs.dtype)
        hit = targets * np.log(np.maximum(outputs, limits.tiny))
        # The largest number below 1 is 1 - epsneg, so a p that was rounded to 1 differed from 1
        # by less than half of epsneg.
        miss = (1.0 - targets) * np.log(np.maximum(1.0 - outputs, limits.epsneg / 2))
        return np.asarray(-hit - miss)

    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        tape.add(np.subtract, outputs, targets, gradient)


@final
@dataclass(frozen=True, slots=True)
class MeanSquaredError(Loss):
    """(p - y)^2, the mean over outputs. The derivative is 2 (p - y)."""

    type: ClassVar[str] = "mse"

    def elements(self, outputs: Array, targets: Array) -> Array:
        return np.asarray(np.square(outputs - targets))

    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        tape.add(np.subtract, outputs, targets, gradient)
        tape.add(np.add, gradient, gradient, gradient)


@final
@dataclass(frozen=True, slots=True)
class MeanAbsoluteError(Loss):
    """|p - y|, the mean over outputs. The derivative is the sign of p - y."""

    type: ClassVar[str] = "mae"

    def elements(self, outputs: Array, targets: Array) -> Array:
        return np.asarray(np.abs(outputs - targets))

    def record_gradient(self, tape: Tape, outputs: Array, targets: Array, gradient: Array) -> None:
        tape.add(np.subtract, outputs, targets, gradient)
        tape.add(np.sign, gradient, gradient)


@final
@dataclass(frozen=True, slots=True)
class Huber(Loss):
    """Quadratic near zero and linear beyond ``delta`` (Huber, 1964), the mean over outputs.

    With e = p - y: e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2). The derivative is e
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
