"""Preprocessing of raw rows. It is stored with the weights of a network."""

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
    """(x - mean) / scale per column, in float64.

    Attributes
    ----------
    mean, scale : (columns,)
        The scale of a constant column is 1.
    """

    mean: Array
    scale: Array

    @classmethod
    def fit(cls, rows: Array) -> "Standardization":
        """Return the standardization that maps ``rows`` to mean 0 and standard deviation 1.

        Columns with a common range, such as pixels, share one scale. Scaling each column on its own
        would amplify pixels that rarely change.

        Parameters
        ----------
        rows : (rows, columns)

        Raises
        ------
        NonFiniteError
            If a mean or a standard deviation overflows.
        """
        mean = rows.mean(axis=0, dtype=np.float64)
        scale = rows.std(axis=0, dtype=np.float64)
        if rows.shape[1] > 1 and _columns_share_range(rows):
            scale = np.full_like(scale, np.sqrt(np.mean(np.square(scale))))
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise NonFiniteError("mean and standard deviation of every column")
        # A column whose deviation is only rounding error is treated as constant.
        constant = ~(scale > 1e-12 * np.maximum(np.abs(mean), 1e-300))
        return cls(mean, np.where(constant, 1.0, scale))

    def apply(self, rows: Array) -> Array:
        """Return the standardized rows in float64.

        Parameters
        ----------
        rows : (rows, columns)
        """
        return np.asarray((rows - self.mean) / self.scale)

    def invert(self, rows: Array) -> Array:
        """Return the rows that `apply` maps to ``rows``.

        Parameters
        ----------
        rows : (rows, columns)
        """
        return np.asarray(rows * self.scale + self.mean)

    def config(self) -> dict[str, list[float]]:
        """Return mean and scale as lists."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_config(cls, config: object, columns: int) -> "Standardization":
        """Return the standardization for a stored configuration.

        Raises
        ------
        FormatError, NonFiniteError
            If the configuration is invalid. The path locates the error.
        """
        if not isinstance(config, Mapping) or set(config) != {"mean", "scale"}:
            raise FormatError("a standardization must be an object with mean and scale")
        statistics = {}
        for name in ("mean", "scale"):
            values = config[name]
            if not isinstance(values, list) or len(values) != columns:
                raise FormatError(f"{name} must be a list of {columns} numbers", path=(name,))
            if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
                raise FormatError(f"{name} must be a list of numbers", path=(name,))
            if any(isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER for value in values):
                raise NonFiniteError(name, path=(name,))
            statistics[name] = np.array(values, np.float64)
            if not np.isfinite(statistics[name]).all():
                raise NonFiniteError(name, path=(name,))
        if not (statistics["scale"] > 0.0).all():
            raise FormatError("scale must be positive", path=("scale",))
        return cls(statistics["mean"], statistics["scale"])


def _columns_share_range(rows: Array) -> bool:
    """Return True if at least half of the columns span the range of the whole array."""
    lows, highs = rows.min(axis=0), rows.max(axis=0)
    return bool(np.median(lows) == lows.min() and np.median(highs) == highs.max())


@final
@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The transformation of raw rows to network inputs, and of network outputs to raw values.

    Attributes
    ----------
    inputs
        Standardization of the input columns.
    targets
        Standardization of regression targets. Its inverse is applied to outputs.
    """

    inputs: Standardization | None = None
    targets: Standardization | None = None

    def __bool__(self) -> bool:
        """Return True if inputs or targets are standardized."""
        return self.inputs is not None or self.targets is not None

    def config(self) -> dict[str, Any] | None:
        """Return the stored form. None if nothing is standardized."""
        if not self:
            return None
        return {
            "inputs": self.inputs and self.inputs.config(),
            "targets": self.targets and self.targets.config(),
        }

    @classmethod
    def from_config(cls, config: object, inputs: int, units: int) -> "Preprocessing":
        """Return the preprocessing for a stored form.

        Parameters
        ----------
        config
            The stored form, or None.
        inputs, units
            Numbers of inputs and outputs of the network.

        Raises
        ------
        FormatError, NonFiniteError
            If the stored form is invalid. The path locates the error.
        """
        if config is None:
            return cls()
        if not isinstance(config, Mapping) or not set(config) <= {"inputs", "targets"}:
            raise FormatError("preprocessing must be an object with inputs and targets")
        parts = {}
        for name, columns in (("inputs", inputs), ("targets", units)):
            if config.get(name) is not None:
                try:
                    parts[name] = Standardization.from_config(config[name], columns)
                except EngineError as error:
                    raise error.under(name) from None
        return cls(**parts)
