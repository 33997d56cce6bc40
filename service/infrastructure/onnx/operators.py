"""ONNX operators, evaluated to what their outputs are as functions of the graph's input.

Each function returns the value of the node's output, or a list of values, and raises FormatError if
no dense network can express the node.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, final

import numpy as np
from onnx import TensorProto, numpy_helper

from core.activations import Activation, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from core.arrays import Array
from core.errors import FormatError
from service.infrastructure.onnx.chain import Chain
from service.infrastructure.onnx.tensors import Constants

INFINITE: Final = 3.4e38
"""Limits of Clip from here on bound nothing."""


@final
@dataclass(frozen=True, slots=True)
class ClassIndex:
    """The index of the most probable class of a chain."""

    chain: Chain


@final
@dataclass(frozen=True, slots=True)
class ClassName:
    """The name of the most probable class of a chain."""

    chain: Chain
    names: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Complement:
    """1 - p, for the output p of a sigmoid unit."""

    chain: Chain


@final
@dataclass(frozen=True, slots=True)
class Unsupported:
    """A tensor that is none of the other values, and why."""

    reason: str


Value: TypeAlias = Chain | ClassIndex | ClassName | Complement | Unsupported | TensorProto | Array


@final
@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph with the values of its operands.

    Attributes
    ----------
    names
        Names of the operands.
    outputs
        Number of outputs.
    opset
        Version of the standard operators.
    columns
        Values per row of the graph's input, or None if it does not declare them.
    has_channels
        Whether the graph's input has more than two dimensions.
    """

    operator: str
    names: Sequence[str]
    operands: list[Any]
    outputs: int
    attributes: dict[str, Any]
    constants: Constants
    opset: int
    columns: int | None
    has_channels: bool

    def rows(self) -> Chain:
        """Return the first operand, which must be rows."""
        if not self.operands or not isinstance(self.operands[0], Chain):
            raise FormatError("must have the rows as its first operand")
        return self.operands[0]


def constant(node: Node) -> Value:
    """Evaluate Constant."""
    value = node.attributes.get("value")
    if isinstance(value, TensorProto):
        return value
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return np.array(node.attributes[name], dtype)
    if "value_strings" in node.attributes:
        return np.array(node.attributes["value_strings"], object)
    raise FormatError("has no dense numeric value")


def identity(node: Node) -> Value:
    """Evaluate Identity."""
    value: Value = node.operands[0]
    return value


def dropout(node: Node) -> list[Value]:
    """Evaluate Dropout, which is the identity in inference."""
    if len(node.operands) > 2 and node.operands[2] is not None:
        training = node.operands[2]
        if not isinstance(training, TensorProto) or numpy_helper.to_array(training).any():
            raise FormatError("is in training mode")
    mask = Unsupported("the mask of a Dropout is not an output of a network")
    return [node.operands[0], *[mask] * (node.outputs - 1)]


def cast(node: Node) -> Value:
    """Evaluate Cast to a type that does not round."""
    value, kind = node.operands[0], node.attributes.get("to")
    if isinstance(value, ClassIndex | ClassName):
        return value
    if kind not in {TensorProto.FLOAT, TensorProto.DOUBLE}:
        name = TensorProto.DataType.Name(kind) if kind else "nothing"
        raise FormatError(f"to {name} rounds the values")
    if isinstance(value, TensorProto | np.ndarray):
        dtype = np.float64 if kind == TensorProto.DOUBLE else np.float32
        return node.constants.floats(value, node.names[0]).astype(dtype)
    result: Value = value
    return result


def transpose(node: Node) -> Value:
    """Evaluate Transpose of a constant."""
    value = node.operands[0]
    if not isinstance(value, TensorProto | np.ndarray):
        raise FormatError("of rows is not supported")
    return node.constants.floats(value, node.names[0]).transpose(node.attributes.get("perm"))


def flatten(node: Node) -> Value:
    """Evaluate Flatten of rows to rows."""
    axis = node.attributes.get("axis", 1)
    value = node.operands[0]
    if isinstance(value, Chain) and (axis == 1 or (value.layers and axis == -1)):
        return value
    raise FormatError(f"with axis {axis} changes the rows")


def reshape(node: Node) -> Value:
    """Evaluate Reshape, of a constant or to the same rows."""
    value = node.operands[0]
    if isinstance(value, ClassIndex | ClassName):
        return value
    shape = node.constants.integers(node.operands[1], node.names[1])
    if isinstance(value, TensorProto | np.ndarray):
        return node.constants.floats(value, node.names[0]).reshape(shape)
    width = value.width
    if width is None:
        width = node.columns
    allowed = [[0, -1]] if width is None else [[0, -1], [0, width], [-1, width]]
    if shape not in allowed or node.attributes.get("allowzero", 0):
        raise FormatError(f"to {shape} changes the rows")
    result: Value = value
    return result


def squeeze(node: Node) -> Value:
    """Evaluate Squeeze and Unsqueeze, of a constant or of a single column."""
    value = node.operands[0]
    if isinstance(value, ClassIndex | ClassName):
        return value
    axes = node.attributes.get("axes")
    if axes is None and len(node.operands) > 1:
        axes = node.constants.integers(node.operands[1], node.names[1])
    if isinstance(value, TensorProto | np.ndarray):
        array = node.constants.floats(value, node.names[0])
        if node.operator == "Squeeze":
            return array.squeeze(None if axes is None else tuple(axes))
        return np.expand_dims(array, tuple(axes or ()))
    if isinstance(value, Chain) and value.width == 1 and axes in ([1], [-1]):
        return value  # a column as a list, or a list as a column: the same numbers
    raise FormatError("changes the rows")


def multiply_matrices(node: Node) -> Value:
    """Evaluate Gemm and MatMul: a layer."""
    if not isinstance(node.operands[0], Chain):
        raise FormatError("must multiply rows by a constant matrix")
    weights = node.constants.floats(node.operands[1], node.names[1])
    attributes = node.attributes
    if weights.ndim != 2:
        raise FormatError("must multiply rows by a two-dimensional constant matrix")
    if attributes.get("transA", 0):
        raise FormatError("with transA is not supported")
    if attributes.get("transB", 0):
        weights = weights.T
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if alpha != 1.0:
        weights = (weights * np.float64(alpha)).astype(weights.dtype)
    biases = None
    if len(node.operands) > 2 and node.names[2]:
        row = node.constants.exact(node.operands[2], node.names[2]) * beta
        if len(row) not in {1, weights.shape[1]}:
            raise FormatError(f"has {len(row)} biases for {weights.shape[1]} units")
        biases = np.broadcast_to(row, weights.shape[1]).astype(weights.dtype)
    return node.operands[0].multiply(weights, biases)


def arithmetic(node: Node) -> Value:
    """Evaluate Add, Sub, Mul or Div of a chain and a constant."""
    first, second = _two(node)
    if isinstance(first, Chain) and isinstance(second, Chain):
        raise FormatError("combines two branches of the graph")
    if isinstance(first, Chain):
        return _with_constant(node.operator, first, node.constants.exact(second, node.names[1]))
    if not isinstance(second, Chain):
        raise FormatError("must have the rows and a constant as its operands")
    constant = node.constants.exact(first, node.names[0])
    if node.operator == "Div":
        raise FormatError("divides by the rows")
    if node.operator != "Sub":
        return _with_constant(node.operator, second, constant)
    if second.is_probability and constant.tolist() == [1.0]:
        return Complement(second)
    return second.affine(-np.ones(1), constant)


def _two(node: Node) -> tuple[Value | None, Value | None]:
    """Return the two operands of a node."""
    if len(node.operands) != 2:
        raise FormatError(f"has {len(node.operands)} operands, expected 2")
    return node.operands[0], node.operands[1]


def _with_constant(operator: str, chain: Chain, constant: Array) -> Chain:
    """Return ``chain`` operator ``constant``."""
    zero, one = np.zeros(1), np.ones(1)
    if operator == "Mul":
        return chain.affine(constant, zero)
    if operator == "Div":
        return chain.divide(constant)
    return chain.affine(one, -constant if operator == "Sub" else constant)


def scaler(node: Node) -> Value:
    """Evaluate Scaler: (x - offset) * scale."""
    offset, scale = (
        np.array(node.attributes.get(name, [default]), np.float64)
        for name, default in (("offset", 0.0), ("scale", 1.0))
    )
    return node.rows().affine(np.ones(1), -offset).affine(scale, np.zeros(1))


def batch_normalization(node: Node) -> list[Value]:
    """Evaluate BatchNormalization in inference, where its statistics are constants."""
    if node.attributes.get("training_mode", 0):
        raise FormatError("is in training mode")
    scale, bias, mean, variance = (
        node.constants.exact(operand, name)
        for operand, name in zip(node.operands[1:5], node.names[1:5], strict=True)
    )
    if len({len(part) for part in (scale, bias, mean, variance)}) != 1:
        raise FormatError("has statistics of different lengths")
    if not (variance >= 0.0).all():
        raise FormatError("has a negative variance")
    factor = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    chain = node.rows()
    if chain.width is None:
        if node.has_channels:
            raise FormatError("of an input with channels is not supported")
        chain = chain.affine(np.ones_like(mean), -mean).affine(factor, bias)
    else:
        chain = chain.affine(factor, bias - mean * factor)
    other = Unsupported("statistics of a BatchNormalization are not an output of a network")
    return [chain, *[other] * (node.outputs - 1)]


def linear_model(node: Node) -> Value | list[Value]:
    """Evaluate LinearRegressor, or LinearClassifier: its label and its scores."""
    attributes, classifier = node.attributes, node.operator == "LinearClassifier"
    weights = np.array(attributes.get("coefficients", []), np.float32)
    intercepts = np.array(attributes.get("intercepts", []), np.float32)
    names: tuple[str, ...] = ()
    if classifier:
        raw = attributes.get("classlabels_strings") or attributes.get("classlabels_ints") or []
        names = tuple(v.decode() if isinstance(v, bytes) else str(v) for v in raw)
    units = len(names) if classifier else int(attributes.get("targets", 1))
    if units < 1 or len(weights) % units or not len(weights):
        raise FormatError(f"has {len(weights)} coefficients for {units} outputs")
    if len(intercepts) not in {0, units}:
        raise FormatError(f"has {len(intercepts)} intercepts for {units} outputs")
    matrix = node.constants.floats(weights.reshape(units, -1), "coefficients").T
    rows = node.rows().multiply(matrix, intercepts if len(intercepts) else None)
    transform = attributes.get("post_transform", b"NONE").decode()
    if transform == "NONE":
        chain = replace(rows, biased=True)
    elif transform == "SOFTMAX":
        chain = rows.activate(Softmax())
    elif transform == "LOGISTIC" and units == 2 and _is_opposite(rows):
        layer = rows.layers[-1]
        unit = type(layer)(layer.weights[:, 1:], layer.biases[1:])
        chain = replace(rows, layers=(*rows.layers[:-1], unit)).as_pair()
    elif transform == "LOGISTIC":
        chain = rows.activate(Sigmoid())
    else:
        raise FormatError(f"with post_transform {transform[:40]} is not supported")
    return [ClassName(chain, names), chain] if classifier else chain


def activation(node: Node) -> Value:
    """Evaluate an activation."""
    chain = node.rows()
    kind, attributes = node.operator, node.attributes
    if kind in {"Softmax", "LogSoftmax"}:
        axis = attributes.get("axis", 1 if node.opset < 13 else -1)
        if axis not in {1, -1}:
            raise FormatError(f"over axis {axis} is not supported, expected axis 1 or -1")
        return replace(chain.activate(Softmax()), logarithm=kind == "LogSoftmax")
    if kind == "LeakyRelu":
        return chain.activate(_leaky(float(attributes.get("alpha", 0.01))))
    if kind == "PRelu":
        slopes = node.constants.exact(node.operands[1], node.names[1])
        if (slopes != slopes[0]).any():
            raise FormatError("has a slope of its own for each unit")
        return chain.activate(_leaky(float(slopes[0])))
    plain: dict[str, Activation] = {"Relu": ReLU(), "Sigmoid": Sigmoid(), "Tanh": Tanh()}
    return chain.activate(plain[kind])


def clip(node: Node) -> Value:
    """Evaluate Clip, which is a ReLU or the identity."""
    chain = node.rows()
    bounds = []
    for index, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        bound = node.attributes.get(name, default)
        if len(node.operands) > index and node.operands[index] is not None:
            bound = node.constants.exact(node.operands[index], node.names[index])[0]
        bounds.append(float(bound))
    low, high = bounds
    probabilities = bool(chain.layers) and isinstance(chain.activations[-1], Sigmoid | Softmax)
    if (low <= -INFINITE and high >= INFINITE) or (
        probabilities and not chain.after.changes and low <= 0.0 and high >= 1.0
    ):
        return chain
    if low == 0.0 and high >= INFINITE:
        return chain.activate(ReLU())
    raise FormatError(f"to [{low:g}, {high:g}] is not supported, only to [0, infinity)")


def normalizer(node: Node) -> Value:
    """Evaluate Normalizer of probabilities, whose sum is 1 already."""
    chain, norm = node.rows(), node.attributes.get("norm", b"MAX").decode()
    if norm == "L1" and chain.layers and isinstance(chain.activations[-1], Softmax):
        return chain  # the sum of probabilities is 1 already
    raise FormatError(f"with the norm {norm[:40]} is only supported after probabilities")


def concat(node: Node) -> Value:
    """Evaluate Concat of 1 - p and p."""
    if (
        len(node.operands) == 2
        and isinstance(node.operands[0], Complement)
        and node.operands[0].chain is node.operands[1]
        and node.attributes.get("axis") in {1, -1}
    ):
        pair: Value = node.operands[1].as_pair()
        return pair
    raise FormatError("joins branches of the graph")


def class_index(node: Node) -> Value:
    """Evaluate ArgMax."""
    if node.attributes.get("axis", 0) not in {1, -1}:
        raise FormatError("must be over axis 1 or -1")
    if node.attributes.get("select_last_index", 0):
        raise FormatError("with select_last_index is not supported")
    return ClassIndex(node.rows())


def greater(node: Node) -> Value:
    """Evaluate p > 0.5."""
    chain = node.rows()
    threshold = node.constants.exact(node.operands[1], node.names[1])
    if not chain.is_probability or threshold.tolist() != [0.5]:
        raise FormatError("is only supported as p > 0.5 of a sigmoid unit")
    return ClassIndex(chain)


def class_name(node: Node) -> Value:
    """Evaluate Gather and ArrayFeatureExtractor: the name of a class."""
    if not isinstance(node.operands[1], ClassIndex):
        raise FormatError("selects by something else than the most probable class")
    if node.attributes.get("axis", 0):
        raise FormatError("must be over axis 0")
    return ClassName(node.operands[1].chain, node.constants.names(node.operands[0], node.names[0]))


def zip_map(node: Node) -> Value:
    """Evaluate ZipMap, which returns the same probabilities as a map."""
    return node.rows()


def _leaky(slope: float) -> Activation:
    """Return the leaky ReLU with a slope, which ONNX stores as a float32."""
    rounded = float(f"{slope:.7g}")
    return LeakyReLU(rounded if np.float32(rounded) == np.float32(slope) else slope)


def _is_opposite(chain: Chain) -> bool:
    """Return True if the two units of the last layer are each other's negative."""
    layer = chain.layers[-1]
    opposite = np.array_equal(layer.weights[:, 0], -layer.weights[:, 1])
    return bool(opposite and layer.biases[0] == -layer.biases[1])


Operator = Callable[[Node], Value | list[Value]]
OPERATORS: Final[dict[tuple[str, str], Operator]] = {
    **{("", name): arithmetic for name in ("Add", "Sum", "Sub", "Mul", "Div")},
    **{
        ("", name): activation
        for name in ("Relu", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax")
    },
    ("", "ArgMax"): class_index,
    ("", "BatchNormalization"): batch_normalization,
    ("", "Cast"): cast,
    ("", "Clip"): clip,
    ("", "Concat"): concat,
    ("", "Constant"): constant,
    ("", "Dropout"): dropout,
    ("", "Flatten"): flatten,
    ("", "Gather"): class_name,
    ("", "Gemm"): multiply_matrices,
    ("", "Greater"): greater,
    ("", "Identity"): identity,
    ("", "MatMul"): multiply_matrices,
    ("", "Reshape"): reshape,
    ("", "Squeeze"): squeeze,
    ("", "Transpose"): transpose,
    ("", "Unsqueeze"): squeeze,
    ("ai.onnx.ml", "ArrayFeatureExtractor"): class_name,
    ("ai.onnx.ml", "LinearClassifier"): linear_model,
    ("ai.onnx.ml", "LinearRegressor"): linear_model,
    ("ai.onnx.ml", "Normalizer"): normalizer,
    ("ai.onnx.ml", "Scaler"): scaler,
    ("ai.onnx.ml", "ZipMap"): zip_map,
}
