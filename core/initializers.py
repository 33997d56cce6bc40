"""Distributions of initial weights. Biases are initially zero."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np

from core.arrays import Array


class Initializer(ABC):
    """A distribution of the weights of one layer, scaled by fan-in and fan-out."""

    type: ClassVar[str]

    @abstractmethod
    def draw(self, fan_in: int, fan_out: int, generator: np.random.Generator) -> Array:
        """Return float64 weights of shape (fan_in, fan_out)."""


@final
@dataclass(frozen=True, slots=True)
class HeNormal(Initializer):
    """Normal with variance 2 / fan_in (He et al., 2015)."""

    type: ClassVar[str] = "he_normal"

    def draw(self, fan_in: int, fan_out: int, generator: np.random.Generator) -> Array:
        return generator.normal(0.0, math.sqrt(2.0 / fan_in), (fan_in, fan_out))


@final
@dataclass(frozen=True, slots=True)
class HeUniform(Initializer):
    """Uniform with variance 2 / fan_in (He et al., 2015)."""

    type: ClassVar[str] = "he_uniform"

    def draw(self, fan_in: int, fan_out: int, generator: np.random.Generator) -> Array:
        limit = math.sqrt(6.0 / fan_in)
        return generator.uniform(-limit, limit, (fan_in, fan_out))


@final
@dataclass(frozen=True, slots=True)
class XavierNormal(Initializer):
    """Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""

    type: ClassVar[str] = "xavier_normal"

    def draw(self, fan_in: int, fan_out: int, generator: np.random.Generator) -> Array:
        return generator.normal(0.0, math.sqrt(2.0 / (fan_in + fan_out)), (fan_in, fan_out))


@final
@dataclass(frozen=True, slots=True)
class XavierUniform(Initializer):
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""

    type: ClassVar[str] = "xavier_uniform"

    def draw(self, fan_in: int, fan_out: int, generator: np.random.Generator) -> Array:
        limit = math.sqrt(6.0 / (fan_in + fan_out))
        return generator.uniform(-limit, limit, (fan_in, fan_out))


@final
@dataclass(frozen=True, slots=True)
class Zeros(Initializer):
    """All zeros, for linear models and for demonstrations of symmetry in hidden layers."""

    type: ClassVar[str] = "zeros"

    def draw(self, fan_in: int, fan_out: int, generator: np.random.Generator) -> Array:
        return np.zeros((fan_in, fan_out))


INITIALIZERS: Final[dict[str, type[Initializer]]] = {
    part.type: part for part in (HeNormal, HeUniform, XavierNormal, XavierUniform, Zeros)
}
