"""Optimizers: a few calls on whole vectors over one flat parameter vector."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np

from core.arrays import Array
from core.configuration import require
from core.tape import Tape, scalar


class Optimizer(ABC):
    """An update rule for the parameters.

    Attributes
    ----------
    state_size
        Number of state vectors, each as long as the parameters.
    scalar_count
        Number of scalars that change with each step.
    learning_rate
        The initial learning rate.
    """

    type: ClassVar[str]
    state_size: ClassVar[int]
    scalar_count: ClassVar[int]
    learning_rate: float

    @abstractmethod
    def step_scalars(self, learning_rates: Array, steps: Array) -> tuple[Array, ...]:
        """Return the scalars of each step.

        Parameters
        ----------
        learning_rates : (steps,)
        steps : (steps,)
            Step numbers, counted from 1.

        Returns
        -------
        scalars
            ``scalar_count`` arrays of shape (steps,).
        """

    @abstractmethod
    def record(
        self, tape: Tape, vectors: "Vectors", state: Array, step_scalars: tuple[Array, ...]
    ) -> None:
        """Record one step. A replay may overwrite the gradient.

        Parameters
        ----------
        tape
            Receives the calls.
        vectors
            Parameters, gradient and scratch space, (n,) each.
        state : (state_size, n)
            The optimizer state, zero before the first step.
        step_scalars
            ``scalar_count`` 0-d arrays, set to the results of `step_scalars` before each replay.
        """


@dataclass(frozen=True, slots=True)
class Vectors:
    """The flat vectors of a step.

    Attributes
    ----------
    parameters, gradient, scratch : (n,)
    decayed : (n,)
        1 for weights and 0 for biases.
    """

    parameters: Array
    gradient: Array
    scratch: Array
    decayed: Array


@final
@dataclass(frozen=True, slots=True)
class SGD(Optimizer):
    """w <- w - lr v with v <- momentum v + g. With Nesterov, w <- w - lr (g + momentum v).

    Sutskever et al., 2013, in the variant in which the learning rate multiplies the whole velocity.
    """

    type: ClassVar[str] = "sgd"
    state_size: ClassVar[int] = 1
    scalar_count: ClassVar[int] = 1
    learning_rate: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        require("learning_rate", self.learning_rate, low=0.0)
        require("momentum", self.momentum, low=0.0, high=0.9999)

    def step_scalars(self, learning_rates: Array, steps: Array) -> tuple[Array, ...]:
        return (learning_rates,)

    def record(
        self, tape: Tape, vectors: Vectors, state: Array, step_scalars: tuple[Array, ...]
    ) -> None:
        w, g, scratch = vectors.parameters, vectors.gradient, vectors.scratch
        (rate,), velocity = step_scalars, state[0]
        momentum = scalar(self.momentum, tape.dtype)
        direction = g
        if self.momentum:
            tape.add(np.multiply, velocity, momentum, velocity)
            tape.add(np.add, velocity, g, velocity)
            direction = velocity
        if self.momentum and self.nesterov:
            tape.add(np.multiply, velocity, momentum, scratch)
            tape.add(np.add, scratch, g, scratch)
            direction = scratch
        tape.add(np.multiply, direction, rate, g)
        tape.add(np.subtract, w, g, w)


def _record_adam(
    tape: Tape,
    vectors: Vectors,
    state: Array,
    step_scalars: tuple[Array, ...],
    betas: tuple[float, float],
) -> None:
    """Record w <- w - rate m / (sqrt(v) + epsilon). m and v omit their factors (1 - beta)."""
    w, g = vectors.parameters, vectors.gradient
    (m, v), (rate, epsilon) = state, step_scalars[:2]
    beta1, beta2 = (scalar(beta, tape.dtype) for beta in betas)
    tape.add(np.multiply, m, beta1, m)
    tape.add(np.add, m, g, m)
    tape.add(np.multiply, g, g, g)
    tape.add(np.multiply, v, beta2, v)
    tape.add(np.add, v, g, v)
    tape.add(np.sqrt, v, g)
    tape.add(np.add, g, epsilon, g)
    tape.add(np.divide, m, g, g)
    tape.add(np.multiply, g, rate, g)
    tape.add(np.subtract, w, g, w)


def _adam_scalars(
    learning_rates: Array, steps: Array, betas: tuple[float, float], epsilon: float
) -> tuple[Array, Array]:
    """Return rate and epsilon, (steps,) each, including bias corrections and (1 - beta) factors."""
    beta1, beta2 = betas
    root = np.sqrt((1.0 - beta2**steps) / (1.0 - beta2))
    rate = learning_rates * (1.0 - beta1) / (1.0 - beta1**steps) * root
    return rate, epsilon * root


@final
@dataclass(frozen=True, slots=True)
class Adam(Optimizer):
    """w <- w - lr m_hat / (sqrt(v_hat) + epsilon) (Kingma and Ba, 2015).

    m_hat and v_hat are the bias-corrected running means of g and g^2.
    """

    type: ClassVar[str] = "adam"
    state_size: ClassVar[int] = 2
    scalar_count: ClassVar[int] = 2
    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_adam(self)

    def step_scalars(self, learning_rates: Array, steps: Array) -> tuple[Array, ...]:
        return _adam_scalars(learning_rates, steps, (self.beta1, self.beta2), self.epsilon)

    def record(
        self, tape: Tape, vectors: Vectors, state: Array, step_scalars: tuple[Array, ...]
    ) -> None:
        _record_adam(tape, vectors, state, step_scalars, (self.beta1, self.beta2))


@final
@dataclass(frozen=True, slots=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay, w <- w - lr weight_decay w (Loshchilov and Hutter, 2019).

    Biases do not decay.
    """

    type: ClassVar[str] = "adamw"
    state_size: ClassVar[int] = 2
    scalar_count: ClassVar[int] = 3
    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _check_adam(self)
        require("weight_decay", self.weight_decay, low=0.0)

    def step_scalars(self, learning_rates: Array, steps: Array) -> tuple[Array, ...]:
        betas = (self.beta1, self.beta2)
        rate, epsilon = _adam_scalars(learning_rates, steps, betas, self.epsilon)
        return rate, epsilon, learning_rates * self.weight_decay

    def record(
        self, tape: Tape, vectors: Vectors, state: Array, step_scalars: tuple[Array, ...]
    ) -> None:
        w, scratch = vectors.parameters, vectors.scratch
        tape.add(np.multiply, w, vectors.decayed, scratch)
        tape.add(np.multiply, scratch, step_scalars[2], scratch)
        tape.add(np.subtract, w, scratch, w)
        _record_adam(tape, vectors, state, step_scalars, (self.beta1, self.beta2))


def _check_adam(part: Adam | AdamW) -> None:
    """Raise ConfigurationError for values out of range. With beta = 1 nothing would decay."""
    require("learning_rate", part.learning_rate, low=0.0)
    require("beta1", part.beta1, low=0.0, high=0.999999)
    require("beta2", part.beta2, low=0.0, high=0.999999)
    require("epsilon", part.epsilon, low=1e-30)


@final
@dataclass(frozen=True, slots=True)
class RMSprop(Optimizer):
    """w <- w - lr g / (sqrt(v) + epsilon), where v is the running mean of g^2 (Hinton, 2012)."""

    type: ClassVar[str] = "rmsprop"
    state_size: ClassVar[int] = 1
    scalar_count: ClassVar[int] = 1
    learning_rate: float = 0.001
    decay: float = 0.9
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        require("learning_rate", self.learning_rate, low=0.0)
        require("decay", self.decay, low=0.0, high=0.999999)
        require("epsilon", self.epsilon, low=1e-30)

    def step_scalars(self, learning_rates: Array, steps: Array) -> tuple[Array, ...]:
        return (learning_rates,)

    def record(
        self, tape: Tape, vectors: Vectors, state: Array, step_scalars: tuple[Array, ...]
    ) -> None:
        w, g, scratch = vectors.parameters, vectors.gradient, vectors.scratch
        (rate,), v = step_scalars, state[0]
        tape.add(np.multiply, v, scalar(self.decay, tape.dtype), v)
        tape.add(np.multiply, g, g, scratch)
        tape.add(np.multiply, scratch, scalar(1.0 - self.decay, tape.dtype), scratch)
        tape.add(np.add, v, scratch, v)
        tape.add(np.sqrt, v, scratch)
        tape.add(np.add, scratch, scalar(self.epsilon, tape.dtype), scratch)
        tape.add(np.divide, g, scratch, scratch)
        tape.add(np.multiply, scratch, rate, scratch)
        tape.add(np.subtract, w, scratch, w)


OPTIMIZERS: Final[dict[str, type[Optimizer]]] = {
    part.type: part for part in (SGD, Adam, AdamW, RMSprop)
}
