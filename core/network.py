"""The network: layers over one flat parameter vector."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, final

import numpy as np

from core.arrays import Array, as_rows, parse_dtype
from core.errors import ConfigurationError, EngineError, FormatError, ShapeError
from core.layers import Dense, Layer, layer_from
from core.layers.base import Recorded
from core.tape import ActivationBuffer, Tape


class LayerWeights(NamedTuple):
    """The weights and biases of one dense layer, as in all exchange formats.

    Attributes
    ----------
    weights : (inputs, units)
    biases : (units,)
    """

    weights: Array
    biases: Array


@final
class Network:
    """Layers over one flat parameter vector.

    Parameters
    ----------
    inputs
        Number of inputs.
    layers
        Layers in forward order. The last one is dense.
    dtype
        "float32" or "float64".
    max_parameters
        Raise ConfigurationError for more parameters before they are allocated. It protects against
        untrusted configurations.

    Attributes
    ----------
    parameters : (n,)
        The parameters of all layers in order. Zero until `initialize` or `load_bytes`.
    widths
        Number of inputs, followed by the number of units of each layer.
    """

    def __init__(
        self,
        inputs: int,
        layers: Sequence[Layer],
        dtype: str = "float32",
        *,
        max_parameters: int | None = None,
    ) -> None:
        self.inputs = inputs
        self.layers = tuple(layers)
        self.dtype = parse_dtype(dtype)
        if not self.layers or not isinstance(self.layers[-1], Dense):
            raise ConfigurationError("the last layer must be dense", path=("layers",))
        self.widths = [inputs]
        for layer in self.layers:
            self.widths.append(layer.output_units(self.widths[-1]))
        count = self.parameter_count()
        if max_parameters is not None and count > max_parameters:
            problem = f"the network has {count} parameters, the maximum is {max_parameters}"
            raise ConfigurationError(problem, path=("layers",))
        self.parameters: Array = np.zeros(count, self.dtype)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, max_parameters: int | None = None
    ) -> "Network":
        """Return the network for ``{"input_shape", "layers", "dtype"}``.

        Raises
        ------
        ConfigurationError
            If the configuration is invalid. The path locates the error.
        """
        shape = config["input_shape"]
        if (
            len(shape) != 1
            or isinstance(shape[0], bool)
            or not isinstance(shape[0], int)
            or shape[0] < 1
        ):
            problem = "input_shape must be a list of one integer of at least 1"
            raise ConfigurationError(problem, path=("input_shape",))
        layers = []
        for index, layer_config in enumerate(config["layers"]):
            try:
                layers.append(layer_from(layer_config))
            except EngineError as error:
                raise error.under("layers", index) from None
        dtype = config.get("dtype", "float32")
        return cls(shape[0], layers, dtype, max_parameters=max_parameters)

    def config(self) -> dict[str, Any]:
        """Return the configuration from which `from_config` creates the same layers."""
        return {
            "input_shape": [self.inputs],
            "layers": [layer.config() for layer in self.layers],
            "dtype": self.dtype.name,
        }

    @property
    def units(self) -> int:
        """Number of outputs."""
        return self.widths[-1]

    @property
    def output_activation(self) -> str:
        """Name of the last layer's activation."""
        last = self.layers[-1]
        assert isinstance(last, Dense)  # noqa: S101 - checked by the constructor
        return last.activation.type

    def parameter_count(self) -> int:
        """Return the length n of the flat vector. It does not allocate the vector."""
        return sum(
            layer.parameter_count(width)
            for layer, width in zip(self.layers, self.widths, strict=False)
        )

    def views(self, flat: Array) -> list[Array]:
        """Return the view of each layer.

        Parameters
        ----------
        flat : (n,)
            A vector in the layout of the parameters.

        Returns
        -------
        views
            One array of shape (parameter_count,) per layer.
        """
        ends = [0]
        for layer, width in zip(self.layers, self.widths, strict=False):
            ends.append(ends[-1] + layer.parameter_count(width))
        return [flat[start:end] for start, end in pairwise(ends)]

    def dense(self, flat: Array) -> Iterator[tuple[int, Array]]:
        """Yield the index and the parameter matrix of each dense layer.

        Parameters
        ----------
        flat : (n,)
            A vector in the layout of the parameters.

        Yields
        ------
        index, matrix : (inputs + 1, units)
            The matrix is a view. Its last row is the biases.
        """
        for index, (layer, part) in enumerate(zip(self.layers, self.views(flat), strict=True)):
            if isinstance(layer, Dense):
                yield index, layer.matrix(part)

    def initialize(self, generator: np.random.Generator) -> None:
        """Draw initial parameters."""
        parts = zip(self.layers, self.views(self.parameters), self.widths, strict=False)
        for layer, part, width in parts:
            layer.initialize(part, width, generator)

    def record(
        self,
        tape: Tape,
        activation: ActivationBuffer,
        parameters: Sequence[Array],
        gradients: Sequence[Array],
        out: Array | None = None,
    ) -> list[Recorded]:
        """Record all layers in forward order.

        Parameters
        ----------
        tape
            Receives the calls.
        activation
            Inputs, (inputs, batch).
        parameters, gradients
            `views` of two vectors.
        out : (units, batch)
            Receives the outputs, if given.
        """
        recorded: list[Recorded] = []
        parts = zip(self.layers, parameters, gradients, strict=True)
        for index, (layer, layer_parameters, gradient_view) in enumerate(parts):
            last = out if index == len(self.layers) - 1 else None
            recorded.append(layer.record(tape, activation, layer_parameters, gradient_view, last))
            activation = recorded[-1].output
        return recorded

    def forward(self, x: Array) -> Array:
        """Return the outputs for rows that are already validated.

        Parameters
        ----------
        x : (batch, inputs)

        Returns
        -------
        outputs : (batch, units)
        """
        for layer, part in zip(self.layers, self.views(self.parameters), strict=True):
            x = layer.forward(part, x)
        return x

    def predict(self, inputs: object) -> Array:
        """Validate rows and return their outputs.

        Parameters
        ----------
        inputs : (batch, inputs)
            Any array-like of numbers.

        Returns
        -------
        outputs : (batch, units)

        Raises
        ------
        ShapeError
            If the rows do not have as many columns as the network has inputs.
        NonFiniteError
            If an input is not finite in the network's dtype.
        """
        return self.forward(as_rows(inputs, self.inputs, self.dtype))

    def layer_weights(self) -> list[LayerWeights | None]:
        """Return copies of the weights of each layer, None for layers without weights.

        Weights have the shape (inputs, units) and biases (units,).
        """
        weights: list[LayerWeights | None] = [None] * len(self.layers)
        for index, matrix in self.dense(self.parameters):
            weights[index] = LayerWeights(matrix[:-1].copy(), matrix[-1].copy())
        return weights

    def load_layer_weights(self, weights: Sequence[LayerWeights | None]) -> None:
        """Copy weights into the network.

        Parameters
        ----------
        weights
            Weights (inputs, units) and biases (units,) of each dense layer. Other entries are
            ignored.

        Raises
        ------
        FormatError
            If a dense layer has no weights.
        ShapeError
            If an array does not have the shape of its layer.
        """
        for index, matrix in self.dense(self.parameters):
            part = weights[index]
            if part is None:
                raise FormatError(
                    "a dense layer requires weights and biases", path=("layers", index)
                )
            for name, target in {"weights": matrix[:-1], "biases": matrix[-1]}.items():
                got = getattr(part, name)
                if got.shape != target.shape:
                    raise ShapeError(
                        name, expected=target.shape, got=got.shape, path=("layers", index, name)
                    )
                target[:] = got

    def to_bytes(self) -> bytes:
        """Return all parameters, little-endian: per dense layer weights (in x out), then biases."""
        return self.parameters.tobytes()

    def load_bytes(self, data: bytes) -> None:
        """Load parameters that `to_bytes` returned.

        Raises
        ------
        ShapeError
            If the number of parameters differs.
        """
        flat = np.frombuffer(data, self.dtype)
        if flat.size != self.parameters.size:
            raise ShapeError("parameters", expected=self.parameters.shape, got=flat.shape)
        self.parameters[:] = flat

    def sha256(self) -> str:
        """Return the digest of `to_bytes`, which identifies the weights."""
        return hashlib.sha256(self.to_bytes()).hexdigest()
