"""The fully connected layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from core.activations import ACTIVATIONS, Activation, LeakyReLU, ReLU
from core.arrays import Array
from core.configuration import build, describe
from core.errors import ConfigurationError, EngineError
from core.initializers import INITIALIZERS, HeNormal, Initializer, XavierUniform
from core.layers.base import Layer, Recorded
from core.tape import ActivationBuffer, Tape


@final
@dataclass(frozen=True, slots=True)
class Dense(Layer):
    """a = f(x W + b).

    The parameters are one (inputs + 1, units) matrix, W above b. On inputs with a row of ones,
    forward and backward are one product each. Neither the addition of biases nor the sum for their
    gradient is a separate call. Row-major tapes have no row of ones.
    """

    type: ClassVar[str] = "dense"
    units: int
    activation: Activation
    initializer: Initializer | None = None

    def __post_init__(self) -> None:
        if isinstance(self.units, bool) or not isinstance(self.units, int) or self.units < 1:
            problem = f"units must be an integer of at least 1, got {str(self.units)[:80]}"
            raise ConfigurationError(problem, path=("units",))

    def output_units(self, inputs: int) -> int:
        return self.units

    def parameter_count(self, inputs: int) -> int:
        return self.units * (inputs + 1)

    def initialize(self, parameters: Array, inputs: int, generator: np.random.Generator) -> None:
        matrix = self.matrix(parameters)
        matrix[:-1] = self.effective_initializer().draw(inputs, self.units, generator)
        matrix[-1] = 0.0

    def effective_initializer(self) -> Initializer:
        """Return the configured initializer, or the default: He for rectifiers, else Xavier."""
        if self.initializer is not None:
            return self.initializer
        return HeNormal() if isinstance(self.activation, ReLU | LeakyReLU) else XavierUniform()

    def matrix(self, parameters: Array) -> Array:
        """Return the parameters as a matrix whose last row is the biases.

        Parameters
        ----------
        parameters : (parameter_count,)

        Returns
        -------
        matrix : (inputs + 1, units)
            A view.
        """
        return parameters.reshape(-1, self.units)

    def forward(self, parameters: Array, x: Array) -> Array:
        matrix = self.matrix(parameters)
        z = x @ matrix[:-1] + matrix[-1]  # (batch, units)
        return self.activation.forward(z)

    def record(
        self,
        tape: Tape,
        x: ActivationBuffer,
        parameters: Array,
        gradient: Array,
        out: Array | None = None,
    ) -> Recorded:
        matrix, matrix_gradient = self.matrix(parameters), self.matrix(gradient)
        output = tape.activation(self.units) if out is None else ActivationBuffer(out, out)
        if x.augmented is not None:
            tape.product(matrix.T, x.augmented, output.values)
        else:
            tape.product(matrix[:-1].T, x.values, output.values)
            tape.add(np.add, output.values, matrix[-1:].T, output.values)
        through_activation = self.activation.record(tape, output.values)

        def backward(delta: Array, needs_input_gradient: bool) -> Array | None:  # noqa: FBT001
            if x.augmented is not None:
                tape.product(x.augmented, delta.T, matrix_gradient)
            else:
                tape.product(x.values, delta.T, matrix_gradient[:-1])
                ones = tape.constant(lambda: np.ones(tape.batch, tape.dtype))
                tape.product(delta, ones, matrix_gradient[-1])
            if not needs_input_gradient:
                return None
            upstream = tape.buffer(x.values)
            tape.product(matrix[:-1], delta, upstream)
            return upstream

        return Recorded(output, through_activation, backward)

    def config(self) -> dict[str, Any]:
        activation = describe(self.activation)
        name = activation.pop("type")
        config = {"type": self.type, "units": self.units, "activation": name, **activation}
        if self.initializer is not None:
            config["initializer"] = self.initializer.type
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Dense":
        """Return the layer for a configuration.

        ``negative_slope`` may be a field of the layer if its activation is "leaky_relu".

        Raises
        ------
        ConfigurationError
            If a field is missing, unknown or invalid. The path locates the field.
        """
        known = {"units", "activation", "initializer", "negative_slope"}
        for key in config.keys() - known:
            allowed = ", ".join(sorted(known))
            problem = f"unknown field {str(key)[:80]!r} of dense; allowed: {allowed}"
            raise ConfigurationError(problem, path=(key,))
        if "units" not in config:
            raise ConfigurationError("dense requires the field 'units'", path=("units",))
        activation: Any = config.get("activation", "linear")
        if "negative_slope" in config:
            if activation != "leaky_relu":
                problem = "negative_slope requires the activation leaky_relu"
                raise ConfigurationError(problem, path=("negative_slope",))
            activation = {"type": activation, "negative_slope": config["negative_slope"]}
        try:
            activation = build(ACTIVATIONS, "activation", activation)
        except EngineError as error:
            raise error.under("activation") from None
        initializer: Any = config.get("initializer")
        if initializer is not None:
            try:
                initializer = build(INITIALIZERS, "initializer", initializer)
            except EngineError as error:
                raise error.under("initializer") from None
        return cls(config["units"], activation, initializer)
