"""What every layer offers."""

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
        What the next layer takes.
    through_activation
        Records dL/da -> dL/dz, in place; nothing where the layer has no activation.
    backward
        Records, from dL/dz, the gradient of the layer's parameters, and returns dL/dx, or None
        when nobody asked for it.
    """

    output: ActivationBuffer
    through_activation: Callable[[Array], None]
    backward: Callable[[Array, bool], Array | None]


class Layer(ABC):
    """A step from (batch, inputs) to (batch, units); its parameters live in a flat vector."""

    type: ClassVar[str]

    @abstractmethod
    def output_units(self, inputs: int) -> int:
        """Return the width of what comes out when ``inputs`` go in."""

    @abstractmethod
    def parameter_count(self, inputs: int) -> int:
        """Return how many numbers of the flat vector are this layer's."""

    @abstractmethod
    def initialize(self, parameters: Array, inputs: int, generator: np.random.Generator) -> None:
        """Draw initial values into ``parameters``, this layer's (parameter_count,) view."""

    @abstractmethod
    def forward(self, parameters: Array, x: Array) -> Array:
        """Return the layer's answer in inference.

        Parameters
        ----------
        parameters
            This layer's (parameter_count,) view.
        x
            (batch, inputs)
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
        """Record the layer; on a tape that is not for training it silences nobody.

        Parameters
        ----------
        tape
            Where the calls go.
        x
            What the layer before gives.
        parameters, gradient
            This layer's views of the two flat vectors.
        out
            (units, batch) to write the output to; only a last layer is given one.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the document from which the layer is built again."""
