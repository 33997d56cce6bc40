"""The interface of a layer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from core.arrays import Array
from core.tape import ActivationBuffer, Tape


class Recorded(NamedTuple):
    """A layer on a tape.

    Attributes
    ----------
    output
        Input of the next layer.
    through_activation
        Takes dL/da, (units, batch), and records the update to dL/dz in place. It does nothing for a
        layer without activation.
    backward
        Takes dL/dz, (units, batch), and whether dL/dx is needed. It records the gradient of the
        parameters and returns dL/dx, (inputs, batch), or None if it is not needed.
    """

    output: ActivationBuffer
    through_activation: Callable[[Array], None]
    backward: Callable[[Array, bool], Array | None]


class Layer(ABC):
    """A map from (batch, inputs) to (batch, units). Its parameters are a view of a flat vector."""

    type: ClassVar[str]

    @abstractmethod
    def output_units(self, inputs: int) -> int:
        """Return the number of outputs for a number of inputs."""

    @abstractmethod
    def parameter_count(self, inputs: int) -> int:
        """Return the number of elements of the flat vector that belong to this layer."""

    @abstractmethod
    def initialize(self, parameters: Array, inputs: int, generator: np.random.Generator) -> None:
        """Draw initial values.

        Parameters
        ----------
        parameters : (parameter_count,)
            This layer's view of the flat vector. It is overwritten.
        inputs
            Number of inputs.
        generator
            Source of randomness.
        """

    @abstractmethod
    def forward(self, parameters: Array, x: Array) -> Array:
        """Return the outputs for inference.

        Parameters
        ----------
        parameters : (parameter_count,)
            This layer's view of the flat vector.
        x : (batch, inputs)

        Returns
        -------
        a : (batch, units)
        """

    @abstractmethod
    def record(
        self,
        tape: Tape,
        x: ActivationBuffer,
        parameters: Array,
        gradient: Array,
        out: Array | None = None,
    ) -> Recorded:
        """Record the layer. Dropout is disabled unless the tape is for training.

        Parameters
        ----------
        tape
            Receives the calls.
        x
            Output of the previous layer, (inputs, batch).
        parameters, gradient : (parameter_count,)
            This layer's views of the two flat vectors.
        out : (units, batch)
            Receives the output of the last layer. None for all other layers.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the configuration from which the layer can be rebuilt."""
