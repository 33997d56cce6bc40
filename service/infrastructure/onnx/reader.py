"""Graphs of others as models: what scikit-learn, PyTorch and Keras export for dense networks."""

import math
from typing import Any, Final, final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from core.arrays import Array
from core.errors import ConfigurationError, EngineError, FormatError
from core.formats import Model
from core.formats.named_arrays import assembled
from core.network import LayerWeights
from core.preprocessing import Preprocessing, Standardization
from service.infrastructure.onnx.operators import ACTIVATIONS

IGNORED_OPERATORS: Final = frozenset(
    {"Identity", "Cast", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}
)
"""Operators that leave the numbers of a dense network as they are."""
LABEL_OPERATORS: Final = frozenset(
    {
        *("ArgMax", "ArrayFeatureExtractor", "ZipMap", "Normalizer"),
        *("Concat", "Sub", "Gather", "Greater"),
    }
)
"""Operators after the last layer that turn probabilities into labels."""


def read(data: bytes, max_parameters: int) -> Model:
    """Return the model of a file."""
    try:
        loaded = onnx.load_model_from_string(data)
        _check_inside(loaded)
        return Reader(loaded.graph, max_parameters).model()
    except EngineError:
        raise
    except Exception as error:
        # protobuf and its helpers raise what they like for bytes that are no model.
        raise FormatError(f"this is no ONNX file that can be read: {error!s:.200}") from error


def _check_inside(loaded: onnx.ModelProto) -> None:
    """Refuse weights that lie in another file."""
    if any(tensor.external_data for tensor in loaded.graph.initializer):
        raise FormatError("weights in another file are not read; save them within the model")


@final
class Reader:
    """Walks a graph from its first input on, layer by layer."""

    def __init__(self, graph: onnx.GraphProto, max_parameters: int) -> None:
        self._most = self._left = max_parameters
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = list(graph.node)
        for made in self._nodes:
            if made.op_type == "Constant" and made.attribute and made.attribute[0].HasField("t"):
                self._constants[made.output[0]] = made.attribute[0].t
        self._inputs = [entry.name for entry in graph.input if entry.name not in self._constants]
        self._parts: list[LayerWeights] = []
        self._activations: list[str] = []
        self._notes = ["a graph for inference carries no dropout and nothing of the training"]
        # Before the first layer every step is folded into (x - mean) / scale.
        self._mean: Array = np.zeros(1)
        self._scale: Array = np.ones(1)
        self._scaled = False
        self._labels: tuple[str, ...] | None = None

    def model(self) -> Model:
        """Return the model."""
        if len(self._inputs) != 1:
            raise FormatError(f"a dense network has one input, this graph has {len(self._inputs)}")
        here = self._inputs[0]
        for _ in self._nodes:  # a graph of a chain ends within as many steps as it has nodes
            follower = self._follower(here)
            if follower is None:
                break
            here = self._take(follower, here)
        if not self._parts:
            raise FormatError("the graph holds no dense layer")
        self._labels = self._label_names()
        model = assembled(self._parts, self._activations, tuple(self._notes), self._labels)
        if not self._scaled:
            return model
        columns = model.network.inputs
        try:
            mean, scale = (
                np.broadcast_to(part, columns).copy() for part in (self._mean, self._scale)
            )
        except ValueError as error:
            raise FormatError(f"the standardisation does not fit {columns} columns") from error
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0.0).all()):
            raise FormatError("a standardisation divides by positive numbers")
        scaling = Standardization(mean, scale)
        return Model(model.network, model.labels, Preprocessing(scaling), model.notes)

    def _follower(self, name: str) -> Any:
        """Return the node that carries the numbers on; None at the end of the layers."""
        followers = [made for made in self._nodes if name in made.input]
        known = [made for made in followers if made.op_type not in LABEL_OPERATORS]
        if not self._parts:  # before the first layer, a subtraction is a standardisation
            known = followers
        if len(known) > 1:
            known = [made for made in known if made.op_type not in IGNORED_OPERATORS] or known[:1]
        return known[0] if known else None

    def _take(self, made: Any, here: str) -> str:
        """Read one node and return the name of its output."""
        operator = made.op_type
        if operator in {"Gemm", "MatMul"}:
            self._dense(made, here)
        elif operator == "Add" and self._parts:
            self._add_biases(made, here)
        elif operator in ACTIVATIONS:
            self._activate(made)
        elif operator in {"Sub", "Div", "Mul", "Add", "Scaler"} and not self._parts:
            self._standardize(made, here)
        elif operator not in IGNORED_OPERATORS:
            raise FormatError(f"the operator {operator[:40]!r} is none of a dense network's")
        return str(made.output[0])

    def _dense(self, made: Any, here: str) -> None:
        weights = self._array(_other(made, here))
        if weights.ndim != 2 or made.input[0] != here:
            raise FormatError("a layer multiplies rows with a matrix of weights")
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in made.attribute}
        if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0:
            raise FormatError("a Gemm with transA or alpha is no dense layer")
        if attributes.get("transB", 0):
            weights = weights.T
        biases = np.zeros(weights.shape[1], weights.dtype)
        if made.op_type == "Gemm" and len(made.input) > 2 and made.input[2]:
            beta = attributes.get("beta", 1.0)
            biases = self._array(made.input[2]).reshape(-1) * np.asarray(beta, weights.dtype)
        self._parts.append(LayerWeights(weights, biases))
        self._activations.append("linear")

    def _add_biases(self, made: Any, here: str) -> None:
        if self._activations[-1] != "linear":
            raise FormatError("an addition after an activation is none of a dense network's")
        biases = self._array(_other(made, here)).reshape(-1)
        last = self._parts[-1]
        if biases.shape != last.biases.shape:
            raise FormatError(f"biases of shape {biases.shape} do not fit the layer")
        self._parts[-1] = LayerWeights(last.weights, last.biases + biases)

    def _activate(self, made: Any) -> None:
        name = ACTIVATIONS[made.op_type]
        if not self._parts or self._activations[-1] != "linear":
            raise FormatError(f"{made.op_type} does not follow a layer")
        axes = [entry.i for entry in made.attribute if entry.name == "axis"]
        if name == "softmax" and axes and axes[0] not in {-1, 1}:
            raise FormatError(f"Softmax over axis {axes[0]} is no layer's")
        slopes = [entry.f for entry in made.attribute if entry.name == "alpha"]
        if name == "leaky_relu" and slopes and not math.isclose(slopes[0], 0.01, rel_tol=1e-6):
            raise ConfigurationError(f"LeakyRelu with alpha {slopes[0]:.4g}; 0.01 is read")
        self._activations[-1] = name

    def _standardize(self, made: Any, here: str) -> None:
        """Fold a step before the first layer into the standardisation."""
        self._scaled = True
        if made.op_type == "Scaler":  # of ai.onnx.ml: (x - offset) * scale
            values = {entry.name: np.array(entry.floats, np.float64) for entry in made.attribute}
            self._mean = self._mean + values["offset"] * self._scale
            self._scale = self._scale / values["scale"]
            return
        numbers = self._array(_other(made, here)).astype(np.float64).reshape(-1)
        if made.input[0] != here and made.op_type in {"Sub", "Div"}:
            raise FormatError(f"{made.op_type} the other way round is no standardisation")
        if made.op_type in {"Sub", "Add"}:
            sign = 1.0 if made.op_type == "Sub" else -1.0
            self._mean = self._mean + sign * numbers * self._scale
        else:
            self._scale = self._scale * (numbers if made.op_type == "Div" else 1.0 / numbers)

    def _label_names(self) -> tuple[str, ...] | None:
        """Return the constant from which labels are picked, where it names every class."""
        units = len(self._parts[-1].biases)
        classes = 2 if units == 1 and self._activations[-1] == "sigmoid" else units
        pickers = [
            made for made in self._nodes if made.op_type in {"ArrayFeatureExtractor", "Gather"}
        ]
        for name in {name for made in pickers for name in made.input}:
            tensor = self._constants.get(name)
            if tensor is None or math.prod(tensor.dims) != classes or classes < 2:
                continue
            values = numpy_helper.to_array(tensor).reshape(-1).tolist()
            texts = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
            if len(set(texts)) == classes and self._activations[-1] in {"softmax", "sigmoid"}:
                return tuple(texts)
        self._notes.append("the file names no classes")
        return None

    def _array(self, name: str) -> Array:
        tensor = self._constants.get(name)
        if tensor is None:
            raise FormatError(f"the numbers {name[:80]!r} are computed, not stored")
        array: Array = numpy_helper.to_array(tensor)
        self._left -= array.size  # many layers can name the same numbers
        if self._left < 0:
            raise FormatError(f"the file has more than {self._most} parameters")
        if array.dtype.kind != "f":
            raise FormatError(f"{name[:80]!r} holds {array.dtype}; floating point is due")
        return array.astype(np.float64 if array.dtype == np.float64 else np.float32)


def _other(made: Any, here: str) -> str:
    """Return the input of a node that is not the signal."""
    found = next((str(name) for name in made.input if name != here), None)
    if found is None:
        raise FormatError(f"{made.op_type} needs numbers beside the signal")
    return found
