"""What is done to raw rows before a network sees them; stored with its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from core.arrays import Array
from core.configuration import MAX_SAFE_INTEGER
from core.errors import EngineError, FormatError, NonFiniteError


@final
@dataclass(frozen=True, slots=True)
class Standardization:
    """(x - mean) / scale, column by column, in float64.

    Attributes
    ----------
    mean, scale
        (columns,); the scale of a column that never changes is 1.
    """

    mean: Array
    scale: Array

    @classmethod
    def fit(cls, rows: Array) -> "Standardization":
        """Return the standardisation that gives ``rows``, (rows, columns), mean 0 and scale 1.

        Columns that share one range, as pixels do, share one scale too: taken by itself, a pixel
        that hardly ever changes would be blown up to the weight of the others.
        """
        mean = rows.mean(axis=0, dtype=np.float64)
        scale = rows.std(axis=0, dtype=np.float64)
        if rows.shape[1] > 1 and _share_one_range(rows):
            scale = np.full_like(scale, np.sqrt(np.mean(np.square(scale))))
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise NonFiniteError("mean and spread of every column")
        # A column whose spread is rounding noise is as good as constant.
        constant = ~(scale > 1e-12 * np.maximum(np.abs(mean), 1e-300))
        return cls(mean, np.where(constant, 1.0, scale))

    def apply(self, rows: Array) -> Array:
        """Return the standardised rows in float64."""
        return np.asarray((rows - self.mean) / self.scale)

    def invert(self, rows: Array) -> Array:
        """Return what `apply` would turn into ``rows``."""
        return np.asarray(rows * self.scale + self.mean)

    def to_document(self) -> dict[str, list[float]]:
        """Return the numbers as lists."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_document(cls, document: object, columns: int) -> "Standardization":
        """Return the standardisation of a stored document, checked."""
        if not isinstance(document, Mapping) or set(document) != {"mean", "scale"}:
            raise FormatError("a standardisation holds mean and scale")
        numbers = {}
        for name in ("mean", "scale"):
            values = document[name]
            if not isinstance(values, list) or len(values) != columns:
                raise FormatError(f"{name} must hold {columns} numbers", path=(name,))
            if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
                raise FormatError(f"{name} must hold numbers", path=(name,))
            if any(isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER for value in values):
                raise NonFiniteError(name, path=(name,))
            numbers[name] = np.array(values, np.float64)
            if not np.isfinite(numbers[name]).all():
                raise NonFiniteError(name, path=(name,))
        if not (numbers["scale"] > 0.0).all():
            raise FormatError("scale must be positive", path=("scale",))
        return cls(numbers["mean"], numbers["scale"])


def _share_one_range(rows: Array) -> bool:
    """Tell whether at least half of the columns reach from the least to the greatest number."""
    lows, highs = rows.min(axis=0), rows.max(axis=0)
    return bool(np.median(lows) == lows.min() and np.median(highs) == highs.max())


@final
@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How raw rows become network inputs, and network outputs raw numbers.

    Attributes
    ----------
    inputs
        Standardises the input columns.
    targets
        Standardises regression targets; outputs are turned back by its inverse.
    """

    inputs: Standardization | None = None
    targets: Standardization | None = None

    def __bool__(self) -> bool:
        """Tell whether anything is done at all."""
        return self.inputs is not None or self.targets is not None

    def to_document(self) -> dict[str, Any] | None:
        """Return the stored form; None where nothing is done."""
        if not self:
            return None
        return {
            "inputs": self.inputs and self.inputs.to_document(),
            "targets": self.targets and self.targets.to_document(),
        }

    @classmethod
    def from_document(cls, document: object, inputs: int, units: int) -> "Preprocessing":
        """Return what a stored form says, checked against the network's widths."""
        if document is None:
            return cls()
        if not isinstance(document, Mapping) or not set(document) <= {"inputs", "targets"}:
            raise FormatError("preprocessing holds inputs and targets")
        parts = {}
        for name, columns in (("inputs", inputs), ("targets", units)):
            if document.get(name) is not None:
                try:
                    parts[name] = Standardization.from_document(document[name], columns)
                except EngineError as error:
                    raise error.under(name) from None
        return cls(**parts)
