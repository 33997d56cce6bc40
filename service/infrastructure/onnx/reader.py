"""Reads ONNX graphs of dense networks as scikit-learn, PyTorch and Keras export them."""

import math
from typing import Any, Final, final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from core.arrays import Array
from core.errors import ConfigurationError, EngineError, FormatError
from core.formats import Model
from core.formats.named_arrays import build_model
from core.network import LayerWeights
from core.preprocessing import Preprocessing, Standardization
from service.infrastructure.onnx.operators import ACTIVATIONS

IGNORED_OPERATORS: Final = frozenset(
    {"Identity", "Cast", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}
)
"""Operators that do not change the values in a dense network."""
LABEL_OPERATORS: Final = frozenset(
    {
        *("ArgMax", "ArrayFeatureExtractor", "ZipMap", "Normalizer"),
        *("Concat", "Sub", "Gather", "Greater"),
    }
)
"""Operators after the last layer that convert probabilities to labels."""


def read(data: bytes, max_parameters: int) -> Model:
    """Return the model of an ONNX file with at most ``max_parameters`` parameters."""
    try:
        loaded = onnx.load_model_from_string(data)
        _reject_external_data(loaded)
        return Reader(loaded.graph, max_parameters).model()
    except EngineError:
        raise
    except Exception as error:
        # protobuf and its helpers raise arbitrary exceptions for invalid files.
        raise FormatError(f"not a readable ONNX file: {error!s:.200}") from error


def _reject_external_data(loaded: onnx.ModelProto) -> None:
    """Raise FormatError if weights are stored in another file."""
    if any(tensor.external_data for tensor in loaded.graph.initializer):
        raise FormatError(
            "external weights are not supported; save the weights inside the ONNX file"
        )


@final
class Reader:
    """Walks a graph from its input to the last layer."""

    def __init__(self, graph: onnx.GraphProto, max_parameters: int) -> None:
        self._max_parameters = self._parameters_left = max_parameters
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = list(graph.node)
        for node in self._nodes:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                self._constants[node.output[0]] = node.attribute[0].t
        self._inputs = [entry.name for entry in graph.input if entry.name not in self._constants]
        self._weights: list[LayerWeights] = []
        self._activations: list[str] = []
        self._notes = ["an inference graph contains neither dropout nor the training configuration"]
        # Operators before the first layer are folded into (x - mean) / scale.
        self._mean: Array = np.zeros(1)
        self._scale: Array = np.ones(1)
        self._scaled = False
        self._labels: tuple[str, ...] | None = None

    def model(self) -> Model:
        """Return the model that the graph describes."""
        if len(self._inputs) != 1:
            raise FormatError(f"expected a graph with one input, got {len(self._inputs)}")
        current = self._inputs[0]
        for _ in self._nodes:  # bounds the walk, because an invalid graph may contain a cycle
            node = self._next_node(current)
            if node is None:
                break
            current = self._read_node(node, current)
        if not self._weights:
            raise FormatError("the graph contains no dense layer")
        self._labels = self._label_names()
        model = build_model(self._weights, self._activations, tuple(self._notes), self._labels)
        if not self._scaled:
            return model
        columns = model.network.inputs
        try:
            mean, scale = (
                np.broadcast_to(values, columns).copy() for values in (self._mean, self._scale)
            )
        except ValueError as error:
            raise FormatError(
                f"the standardisation does not match the {columns} inputs of the network"
            ) from error
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0.0).all()):
            raise FormatError(
                "expected a standardisation with finite means and finite, positive scales"
            )
        scaling = Standardization(mean, scale)
        return Model(model.network, model.labels, Preprocessing(scaling), model.notes)

    def _next_node(self, name: str) -> Any:
        """Return the node that consumes the tensor ``name``, or None after the last layer."""
        consumers = [node for node in self._nodes if name in node.input]
        candidates = [node for node in consumers if node.op_type not in LABEL_OPERATORS]
        if not self._weights:  # before the first layer, a subtraction is a standardisation
            candidates = consumers
        if len(candidates) > 1:
            relevant = [node for node in candidates if node.op_type not in IGNORED_OPERATORS]
            candidates = relevant or candidates[:1]
        return candidates[0] if candidates else None

    def _read_node(self, node: Any, current: str) -> str:
        """Read the node that consumes the tensor ``current`` and return the name of its output."""
        operator = node.op_type
        if operator in {"Gemm", "MatMul"}:
            self._add_layer(node, current)
        elif operator == "Add" and self._weights:
            self._add_biases(node, current)
        elif operator in ACTIVATIONS:
            self._set_activation(node)
        elif operator in {"Sub", "Div", "Mul", "Add", "Scaler"} and not self._weights:
            self._fold_standardization(node, current)
        elif operator not in IGNORED_OPERATORS:
            raise FormatError(f"unsupported operator {operator[:40]!r} in a dense network")
        return str(node.output[0])

    def _add_layer(self, node: Any, current: str) -> None:
        weights = self._array(_operand(node, current))
        if weights.ndim != 2 or node.input[0] != current:
            raise FormatError(
                f"expected {node.op_type} to multiply rows by a two-dimensional constant matrix"
            )
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0:
            raise FormatError("Gemm with transA or alpha is not supported")
        if attributes.get("transB", 0):
            weights = weights.T
        biases = np.zeros(weights.shape[1], weights.dtype)
        if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2]:
            beta = attributes.get("beta", 1.0)
            biases = self._array(node.input[2]).reshape(-1) * np.asarray(beta, weights.dtype)
        self._weights.append(LayerWeights(weights, biases))
        self._activations.append("linear")

    def _add_biases(self, node: Any, current: str) -> None:
        if self._activations[-1] != "linear":
            raise FormatError("an Add after an activation is not supported in a dense network")
        biases = self._array(_operand(node, current)).reshape(-1)
        last = self._weights[-1]
        if biases.shape != last.biases.shape:
            raise FormatError(f"expected biases of shape {last.biases.shape}, got {biases.shape}")
        self._weights[-1] = LayerWeights(last.weights, last.biases + biases)

    def _set_activation(self, node: Any) -> None:
        name = ACTIVATIONS[node.op_type]
        if not self._weights or self._activations[-1] != "linear":
            raise FormatError(f"expected {node.op_type} directly after a layer")
        axes = [entry.i for entry in node.attribute if entry.name == "axis"]
        if name == "softmax" and axes and axes[0] not in {-1, 1}:
            raise FormatError(f"expected Softmax over axis 1 or -1, got axis {axes[0]}")
        slopes = [entry.f for entry in node.attribute if entry.name == "alpha"]
        if name == "leaky_relu" and slopes and not math.isclose(slopes[0], 0.01, rel_tol=1e-6):
            raise ConfigurationError(f"expected LeakyRelu with alpha 0.01, got {slopes[0]:.4g}")
        self._activations[-1] = name

    def _fold_standardization(self, node: Any, current: str) -> None:
        """Fold an operator before the first layer into the standardisation."""
        self._scaled = True
        if node.op_type == "Scaler":  # operator of ai.onnx.ml: (x - offset) * scale
            values = {entry.name: np.array(entry.floats, np.float64) for entry in node.attribute}
            self._mean = self._mean + values["offset"] * self._scale
            self._scale = self._scale / values["scale"]
            return
        operand = self._array(_operand(node, current)).astype(np.float64).reshape(-1)
        if node.input[0] != current and node.op_type in {"Sub", "Div"}:
            raise FormatError(f"expected {node.op_type} with the input as its first operand")
        if node.op_type in {"Sub", "Add"}:
            sign = 1.0 if node.op_type == "Sub" else -1.0
            self._mean = self._mean + sign * operand * self._scale
        else:
            self._scale = self._scale * (operand if node.op_type == "Div" else 1.0 / operand)

    def _label_names(self) -> tuple[str, ...] | None:
        """Return the constant that a label operator selects from, if it names every class."""
        units = len(self._weights[-1].biases)
        classes = 2 if units == 1 and self._activations[-1] == "sigmoid" else units
        selectors = [
            node for node in self._nodes if node.op_type in {"ArrayFeatureExtractor", "Gather"}
        ]
        for name in {name for node in selectors for name in node.input}:
            tensor = self._constants.get(name)
            if tensor is None or math.prod(tensor.dims) != classes or classes < 2:
                continue
            values = numpy_helper.to_array(tensor).reshape(-1).tolist()
            texts = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
            if len(set(texts)) == classes and self._activations[-1] in {"softmax", "sigmoid"}:
                return tuple(texts)
        self._notes.append("the file does not name the classes")
        return None

    def _array(self, name: str) -> Array:
        tensor = self._constants.get(name)
        if tensor is None:
            raise FormatError(f"expected {name[:80]!r} to be a constant; it is computed")
        array: Array = numpy_helper.to_array(tensor)
        self._parameters_left -= array.size  # a constant counts every time a layer uses it
        if self._parameters_left < 0:
            raise FormatError(f"the file has more than {self._max_parameters} parameters")
        if array.dtype.kind != "f":
            raise FormatError(f"expected floating-point values in {name[:80]!r}, got {array.dtype}")
        return array.astype(np.float64 if array.dtype == np.float64 else np.float32)


def _operand(node: Any, current: str) -> str:
    """Return the name of the node's first input other than the tensor ``current``."""
    operand = next((str(name) for name in node.input if name != current), None)
    if operand is None:
        raise FormatError(f"expected a second input of {node.op_type}")
    return operand
