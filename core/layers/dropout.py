"""The dropout layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from core.arrays import Array
from core.configuration import build, describe, require
from core.errors import ConfigurationError
from core.layers.base import Layer, Recorded
from core.tape import ActivationBuffer, Tape, do_nothing


@final
@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    """Sets random units to zero in training and scales up the others (Srivastava et al., 2014).

    This is inverted dropout: units that remain are divided by the probability of remaining, so that
    inference is the identity.
    """

    type: ClassVar[str] = "dropout"
    rate: float

    def __post_init__(self) -> None:
        require("rate", self.rate, low=0.0, high=0.99)

    def output_units(self, inputs: int) -> int:
        return inputs

    def parameter_count(self, inputs: int) -> int:
        return 0

    def initialize(self, parameters: Array, inputs: int, generator: np.random.Generator) -> None:
        """Do nothing, because the layer has no parameters."""

    def forward(self, parameters: Array, x: Array) -> Array:
        return x

    def record(
        self,
        tape: Tape,
        x: ActivationBuffer,
        parameters: Array,
        gradient: Array,
        out: Array | None = None,
    ) -> Recorded:
        if out is not None:
            raise ConfigurationError("the last layer must be dense, got dropout")
        if not tape.training:
            return Recorded(x, do_nothing, lambda delta, needed: delta if needed else None)
        mask = tape.mask(x.values, 1.0 - self.rate)
        output = tape.activation(len(x.values))
        tape.add(np.multiply, x.values, mask, output.values)

        def backward(delta: Array, needs_input_gradient: bool) -> Array | None:  # noqa: FBT001
            tape.add(np.multiply, delta, mask, delta)
            return delta if needs_input_gradient else None

        return Recorded(output, do_nothing, backward)

    def config(self) -> dict[str, Any]:
        return describe(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Dropout":
        """Return the layer for a configuration."""
        return build({"dropout": cls}, "layer", {**config, "type": "dropout"})
