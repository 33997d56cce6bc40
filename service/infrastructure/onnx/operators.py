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

INDEX_TYPES: Final = frozenset(
    {TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64}
    | {TensorProto.STRING}
)
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
    """

    operator: str
    names: Sequence[str]
    operands: list[Any]
    outputs: int
    attributes: dict[str, Any]
    constants: Constants
    opset: int
    columns: int | None

    def rows(self) -> Chain:
        """Return the first operand, which must have the shape (rows, columns)."""
        if not self.operands or not isinstance(self.operands[0], Chain):
            raise FormatError("must have the rows as its first operand")
        return self.operands[0].require_rows()


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
        if kind not in INDEX_TYPES:
            raise FormatError("of the index of a class must be to an integer or to text")
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
    if isinstance(value, Chain) and not value.is_list and axis == 1:
        return _flat(value)
    raise FormatError(f"with axis {axis} changes the rows")


def _flat(chain: Chain) -> Chain:
    """Return rows of several dimensions as rows of one, before anything was done with them."""
    if chain.has_channels and (chain.layers or chain.mean is not None):
        raise FormatError("must come before what changes the input")
    return replace(chain, has_channels=False) if chain.has_channels else chain


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
    if shape not in allowed or node.attributes.get("allowzero", 0) or value.is_list:
        raise FormatError(f"to {shape} changes the rows")
    return _flat(value)


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
    single = isinstance(value, Chain) and value.width == 1 and axes in ([1], [-1])
    if single and value.is_list is (node.operator == "Unsqueeze"):
        return replace(value, is_list=not value.is_list)  # the same numbers
    raise FormatError("changes the rows")


def multiply_matrices(node: Node) -> Value:
    """Evaluate Gemm and MatMul: a layer."""
    if not isinstance(node.operands[0], Chain):
        raise FormatError("must multiply rows by a constant matrix")
    rows = node.rows()
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
    return rows.multiply(weights, biases)


def arithmetic(node: Node) -> Value:
    """Evaluate Add, Sub, Mul or Div of a chain and a constant."""
    first, second = _two(node)
    if isinstance(first, Chain) and isinstance(second, Chain):
        raise FormatError("combines two branches of the graph")
    if isinstance(first, Chain):
        constant = _constant_for(first, node.constants.exact(second, node.names[1]))
        return _with_constant(node.operator, first, constant)
    if not isinstance(second, Chain):
        raise FormatError("must have the rows and a constant as its operands")
    constant = _constant_for(second, node.constants.exact(first, node.names[0]))
    if node.operator == "Div":
        raise FormatError("divides by the rows")
    if node.operator != "Sub":
        return _with_constant(node.operator, second, constant)
    if second.is_probability and constant.tolist() == [1.0]:
        return Complement(second)
    return second.affine(-np.ones(1), constant)


def _constant_for(chain: Chain, constant: Array) -> Array:
    """Return a constant that keeps the shape of the rows."""
    if chain.logarithm:
        raise FormatError("after LogSoftmax is not supported")
    if (chain.has_channels or chain.is_list) and len(constant) > 1:
        raise FormatError("of rows that are not flat must have a single value")
    return constant


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
    if len(offset) != len(scale):
        raise FormatError("has an offset and a scale of different lengths")
    return node.rows().affine(np.ones(1), -offset).affine(scale, np.zeros(1))


def batch_normalization(node: Node) -> Value:
    """Evaluate BatchNormalization in inference, where its statistics are constants."""
    if node.attributes.get("training_mode", 0) or node.outputs > 1:
        raise FormatError("is in training mode")
    scale, bias, mean, variance = (
        node.constants.exact(operand, name)
        for operand, name in zip(node.operands[1:5], node.names[1:5], strict=True)
    )
    chain = node.rows()
    lengths = {len(part) for part in (scale, bias, mean, variance)}
    if len(lengths) != 1 or chain.width not in {None, *lengths}:
        raise FormatError("has statistics of another length")
    if not (variance >= 0.0).all():
        raise FormatError("has a negative variance")
    factor = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    if chain.width is None:
        chain = chain.affine(np.ones_like(mean), -mean).affine(factor, bias)
    else:
        chain = chain.affine(factor, bias - mean * factor)
    return chain


def linear_model(node: Node) -> Value | list[Value]:
    """Evaluate LinearRegressor, or LinearClassifier: its label and its scores."""
    classifier = node.operator == "LinearClassifier"
    names = _class_names(node) if classifier else ()
    units = len(names) if classifier else int(node.attributes.get("targets", 1))
    rows = _linear(node, units, minimum=2 if classifier else 1)
    transform = node.attributes.get("post_transform", b"NONE").decode()
    if units == 1 and transform != "NONE":  # ONNX Runtime ignores it
        raise FormatError(f"of one output with post_transform {transform[:40]} is not supported")
    chain = _transformed(rows, transform)
    return [ClassName(chain, names), chain] if classifier else chain


def _class_names(node: Node) -> tuple[str, ...]:
    """Return the names of the classes of a LinearClassifier."""
    labels = node.attributes
    raw = labels.get("classlabels_strings") or labels.get("classlabels_ints") or []
    return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in raw)


def _linear(node: Node, units: int, *, minimum: int) -> Chain:
    """Return the linear layer of a linear model."""
    weights = np.array(node.attributes.get("coefficients", []), np.float32)
    intercepts = np.array(node.attributes.get("intercepts", []), np.float32)
    if units < minimum or len(weights) % units or not len(weights):
        raise FormatError(f"has {len(weights)} coefficients for {units} outputs")
    allowed = {units} if node.operator == "LinearClassifier" else {0, units}
    if len(intercepts) not in allowed:
        raise FormatError(f"has {len(intercepts)} intercepts for {units} outputs")
    matrix = node.constants.floats(weights.reshape(units, -1), "coefficients").T
    return node.rows().multiply(matrix, intercepts if len(intercepts) else None)


def _transformed(rows: Chain, transform: str) -> Chain:
    """Return the scores of a linear model after its post_transform."""
    if transform == "NONE":
        return replace(rows, biased=True)
    if transform == "SOFTMAX":
        return rows.activate(Softmax())
    if transform != "LOGISTIC":
        raise FormatError(f"with post_transform {transform[:40]} is not supported")
    if rows.width == 2 and _is_opposite(rows):
        layer = rows.layers[-1]
        unit = type(layer)(layer.weights[:, 1:], layer.biases[1:])
        return replace(rows, layers=(*rows.layers[:-1], unit)).as_pair()
    return rows.activate(Sigmoid())


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
        if (slopes != slopes[0]).any() or len(slopes) not in {1, chain.width}:
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
    softmax = bool(chain.layers) and isinstance(chain.activations[-1], Softmax)
    if norm == "L1" and softmax and not chain.after.changes:
        return chain  # the sum of probabilities is 1 already
    raise FormatError(f"with the norm {norm[:40]} is only supported after probabilities")


def concat(node: Node) -> Value:
    """Evaluate Concat of 1 - p and p."""
    if (
        len(node.operands) == 2
        and isinstance(node.operands[0], Complement)
        and node.operands[0].chain is node.operands[1]
        and not node.operands[1].is_list
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
    chain = node.rows()
    if chain.width == 1:
        raise FormatError("of a single column is always the first class")
    return ClassIndex(chain)


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
