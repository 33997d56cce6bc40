"""The network: layers over one flat parameter vector."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, final

import numpy as np

from core.arrays import Array, as_rows, dtype_named
from core.errors import ConfigurationError, EngineError, FormatError, ShapeError
from core.layers import Dense, Layer, layer_from
from core.layers.base import Recorded
from core.tape import ActivationBuffer, Tape


class LayerWeights(NamedTuple):
    """The numbers of one dense layer as every exchange format has them."""

    weights: Array  # (inputs, units)
    biases: Array  # (units,)


@final
class Network:
    """Layers over one flat vector.

    Parameters
    ----------
    inputs
        Width of the rows it takes.
    layers
        From the inputs to the outputs; the last is dense.
    dtype
        "float32" or "float64".
    most_parameters
        Refuse more before they take memory, for descriptions that strangers wrote.

    Attributes
    ----------
    parameters
        (n,), every layer's numbers one after the other; zero until `initialize` or `load_bytes`.
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
        self.dtype = dtype_named(dtype)
        if not self.layers or not isinstance(self.layers[-1], Dense):
            raise ConfigurationError("the last layer must be dense", path=("layers",))
        self.widths = [inputs]
        for layer in self.layers:
            self.widths.append(layer.output_units(self.widths[-1]))
        count = self.parameter_count()
        if max_parameters is not None and count > max_parameters:
            problem = f"{count} parameters are described, there can be {max_parameters}"
            raise ConfigurationError(problem, path=("layers",))
        self.parameters: Array = np.zeros(count, self.dtype)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], *, max_parameters: int | None = None) -> "Network":
        """Return the network that ``{"input_shape", "layers", "dtype"}`` describes.

        Raises
        ------
        ConfigurationError
            With the path of the offending place.
        """
        shape = spec["input_shape"]
        if (
            len(shape) != 1
            or isinstance(shape[0], bool)
            or not isinstance(shape[0], int)
            or shape[0] < 1
        ):
            problem = "input_shape must hold one whole number of at least 1"
            raise ConfigurationError(problem, path=("input_shape",))
        layers = []
        for index, config in enumerate(spec["layers"]):
            try:
                layers.append(layer_from(config))
            except EngineError as error:
                raise error.under("layers", index) from None
        dtype = spec.get("dtype", "float32")
        return cls(shape[0], layers, dtype, max_parameters=max_parameters)

    def spec(self) -> dict[str, Any]:
        """Return the document from which `from_spec` makes the same layers."""
        return {
            "input_shape": [self.inputs],
            "layers": [layer.config() for layer in self.layers],
            "dtype": self.dtype.name,
        }

    @property
    def units(self) -> int:
        """Width of the outputs."""
        return self.widths[-1]

    @property
    def output_activation(self) -> str:
        """The last layer's activation."""
        last = self.layers[-1]
        assert isinstance(last, Dense)  # noqa: S101 - held by the constructor
        return last.activation.type

    def parameter_count(self) -> int:
        """Return the length of the flat vector, in Python integers, before it is allocated."""
        return sum(
            layer.parameter_count(width)
            for layer, width in zip(self.layers, self.widths, strict=False)
        )

    def views(self, flat: Array) -> list[Array]:
        """Return each layer's part of a vector laid out like the parameters."""
        ends = [0]
        for layer, width in zip(self.layers, self.widths, strict=False):
            ends.append(ends[-1] + layer.parameter_count(width))
        return [flat[start:end] for start, end in pairwise(ends)]

    def dense(self, flat: Array) -> Iterator[tuple[int, Array]]:
        """Yield the index of each dense layer and its (inputs + 1, units) part of ``flat``."""
        for index, (layer, part) in enumerate(zip(self.layers, self.views(flat), strict=True)):
            if isinstance(layer, Dense):
                yield index, layer.matrix(part)

    def initialize(self, generator: np.random.Generator) -> None:
        """Draw initial weights."""
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
        """Record every layer in turn.

        Parameters
        ----------
        signal
            The inputs.
        parameters, gradients
            `views` of two vectors.
        out
            (units, batch) for the outputs to stand in.
        """
        recorded: list[Recorded] = []
        parts = zip(self.layers, parameters, gradients, strict=True)
        for index, (layer, mine, gradient_view) in enumerate(parts):
            last = out if index == len(self.layers) - 1 else None
            recorded.append(layer.record(tape, activation, mine, gradient_view, last))
            activation = recorded[-1].output
        return recorded

    def forward(self, x: Array) -> Array:
        """Return the outputs for rows that are already checked.

        Parameters
        ----------
        x
            (batch, inputs)

        Returns
        -------
        Array
            (batch, units)
        """
        for layer, part in zip(self.layers, self.views(self.parameters), strict=True):
            x = layer.forward(part, x)
        return x

    def predict(self, inputs: object) -> Array:
        """Return the outputs for ``inputs``, (batch, inputs) of any numbers.

        Raises
        ------
        ShapeError, NonFiniteError
            When the rows are not what the network takes.
        """
        return self.forward(as_rows(inputs, self.inputs, self.dtype))

    def layer_weights(self) -> list[LayerWeights | None]:
        """Return copies of each layer's numbers; None for a layer that has none."""
        found: list[LayerWeights | None] = [None] * len(self.layers)
        for index, matrix in self.dense(self.parameters):
            found[index] = LayerWeights(matrix[:-1].copy(), matrix[-1].copy())
        return found

    def load_layer_weights(self, numbers: Sequence[LayerWeights | None]) -> None:
        """Take the numbers of every layer.

        Raises
        ------
        ShapeError
            When an array has another shape than its layer.
        """
        for index, matrix in self.dense(self.parameters):
            part = numbers[index]
            if part is None:
                raise FormatError("a dense layer needs weights", path=("layers", index))
            for name, home in {"weights": matrix[:-1], "biases": matrix[-1]}.items():
                got = getattr(part, name)
                if got.shape != home.shape:
                    raise ShapeError(
                        name, expected=home.shape, got=got.shape, path=("layers", index, name)
                    )
                home[:] = got

    def to_bytes(self) -> bytes:
        """Return all numbers, little-endian: each dense layer's weights (in x out), then biases."""
        return self.parameters.tobytes()

    def load_bytes(self, data: bytes) -> None:
        """Take what `to_bytes` gave."""
        flat = np.frombuffer(data, self.dtype)
        if flat.size != self.parameters.size:
            raise ShapeError("parameters", expected=self.parameters.shape, got=flat.shape)
        self.parameters[:] = flat

    def sha256(self) -> str:
        """Return the digest of `to_bytes`, the identity of the weights."""
        return hashlib.sha256(self.to_bytes()).hexdigest()
