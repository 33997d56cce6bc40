"""Reads ONNX graphs of dense networks as scikit-learn, PyTorch and Keras export them.

Each tensor of the graph is evaluated to what it is as a function of the input: a chain of dense
layers, the index or the name of the most probable class, or a constant. A graph whose outputs are
anything else is rejected with the node that no dense network can express, so that an import never
computes another function than its file.
"""

import math
from typing import Any, Final, final

import onnx
from onnx import helper

from core.activations import Sigmoid, Softmax
from core.errors import ConfigurationError, EngineError, FormatError
from core.formats import Model
from service.infrastructure.onnx.chain import Chain
from service.infrastructure.onnx.operators import (
    OPERATORS,
    ClassIndex,
    ClassName,
    Node,
    Operator,
    Unsupported,
    Value,
)
from service.infrastructure.onnx.tensors import (
    FLOATS,
    MAX_DIMENSIONS,
    Constants,
    check_bounds,
    check_external_data,
)

STANDARD: Final = ("", "ai.onnx")
"""Names of the domain of the standard operators."""

MIN_OPSET: Final = 7
"""Older operators align their operands differently."""


def read(data: bytes, max_parameters: int) -> Model:
    """Return the model of an ONNX file with at most ``max_parameters`` parameters.

    Raises
    ------
    FormatError
        If the file is invalid, or no dense network computes the same function.
    """
    try:
        loaded = onnx.load_model_from_string(data)
        check_bounds(loaded.graph)
        check_external_data(loaded.graph)
        return Reader(loaded, max_parameters).model()
    except EngineError:
        raise
    except (MemoryError, RecursionError) as error:
        raise FormatError("the ONNX file needs too much memory") from error
    except Exception as error:
        # protobuf and its helpers raise arbitrary exceptions for invalid files.
        raise FormatError(f"not a readable ONNX file: {error!s:.200}") from error


@final
class Reader:
    """Evaluates the nodes of a graph in their order, which is topological in a valid file."""

    def __init__(self, loaded: onnx.ModelProto, max_parameters: int) -> None:
        self._graph = graph = loaded.graph
        versions = [entry.version for entry in loaded.opset_import if entry.domain in STANDARD]
        self._opset = max(versions, default=MIN_OPSET)
        if self._opset < MIN_OPSET:
            raise FormatError(f"opset {self._opset} is too old, the minimum is {MIN_OPSET}")
        self._constants = Constants(max_parameters)
        self._own_functions = {(entry.domain, entry.name) for entry in loaded.functions}
        self._values: dict[str, Value] = {tensor.name: tensor for tensor in graph.initializer}
        inputs = [entry for entry in graph.input if entry.name not in self._values]
        if len(inputs) != 1:
            raise FormatError(f"expected a graph with one input, got {len(inputs)}")
        shape = _declared_shape(inputs[0])
        known = None if shape is None or None in shape[1:] else [size or 0 for size in shape[1:]]
        self._columns = None if known is None else math.prod(known)
        self._has_channels = shape is not None and len(shape) > 2
        self._values[inputs[0].name] = Chain(has_channels=self._has_channels)
        self._notes = ["an inference graph contains neither dropout nor the training configuration"]

    def model(self) -> Model:
        """Return the model that the graph describes."""
        for node in self._graph.node:
            values = self._evaluate(node)
            for name, value in zip(node.output, values, strict=False):
                if name in self._values:
                    raise FormatError(f"tensor {name[:80]!r} is defined twice")
                self._values[name] = value
        chain, labels = self._outputs()
        columns, inputs = self._columns, len(chain.layers[0].weights)
        if columns not in {None, inputs}:
            raise FormatError(f"the input has {columns} columns, but the first layer has {inputs}")
        if chain.logarithm:
            self._notes.append(
                "the graph returns logarithms of probabilities (LogSoftmax); the network returns "
                "the probabilities"
            )
        labels = self._checked_labels(chain, labels)
        if self._constants.half_precision:
            self._notes.append("half-precision weights were converted to float32, without rounding")
        return chain.model(labels, tuple(self._notes))

    def _outputs(self) -> tuple[Chain, tuple[str, ...] | None]:
        """Return the chain and the labels that the outputs of the graph are."""
        values = {entry.name: self._values.get(entry.name) for entry in self._graph.output}
        chains = {name: value for name, value in values.items() if isinstance(value, Chain)}
        chain = next(iter(chains.values()), None)
        labels = None
        for name, value in values.items():
            where = f"output {name[:80]!r}"
            if isinstance(value, Unsupported):
                raise FormatError(f"{where}: {value.reason}")
            if isinstance(value, ClassName | ClassIndex) and value.chain is chain:
                labels = value.names if isinstance(value, ClassName) else labels
            elif not isinstance(value, Chain):
                raise FormatError(f"{where} is not computed from the first output of rows")
            elif value is not chain:
                raise FormatError(f"{where} is a second output, which a network does not have")
        if chain is None or not chain.layers:
            raise FormatError("the graph returns the outputs of no dense layer")
        return chain, labels

    def _checked_labels(
        self, chain: Chain, labels: tuple[str, ...] | None
    ) -> tuple[str, ...] | None:
        """Return the labels if they name every class."""
        if labels is None:
            self._notes.append("the file does not name the classes")
            return None
        units, last = chain.width or 0, chain.activations[-1]
        classes = 2 if units == 1 and isinstance(last, Sigmoid) else units
        if len(labels) != classes or len(set(labels)) != classes:
            raise FormatError(f"the file names {len(labels)} of {classes} different classes")
        if not isinstance(last, Softmax | Sigmoid):
            self._notes.append("the names of the classes were left out: the outputs are unbounded")
            return None
        return labels

    def _evaluate(self, node: Any) -> list[Value]:
        """Return the values of a node's outputs."""
        try:
            operands = [self._operand(name) for name in node.input]
            unsupported = [value for value in operands if isinstance(value, Unsupported)]
            if unsupported:
                return [unsupported[0]] * len(node.output)
            result = self._operator(node)(
                Node(
                    node.op_type,
                    node.input,
                    operands,
                    len(node.output),
                    _attributes(node),
                    self._constants,
                    self._opset,
                    self._columns,
                )
            )
            return result if isinstance(result, list) else [result]
        except (ConfigurationError, FormatError) as error:
            name = node.name or next(iter(node.output), "")
            reason = f"node {name[:80]!r} ({node.op_type[:40]}) {error}"
            return [Unsupported(reason)] * max(1, len(node.output))

    def _operand(self, name: str) -> Value | None:
        """Return the value of a tensor; None if an operand is left out."""
        if not name:
            return None
        if name not in self._values:
            raise FormatError(f"reads {name[:80]!r}, which no node before it writes")
        return self._values[name]

    def _operator(self, node: Any) -> Operator:
        """Return the function that evaluates a node."""
        operator = OPERATORS.get(("" if node.domain in STANDARD else node.domain, node.op_type))
        if operator is None or (node.domain, node.op_type) in self._own_functions:
            raise FormatError("is not supported in a dense network")
        return operator


def _attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    if len({entry.name for entry in node.attribute}) != len(node.attribute):
        raise FormatError("repeats an attribute")
    return {
        entry.name: helper.get_attribute_value(entry)
        for entry in node.attribute
        if entry.type not in {entry.GRAPH, entry.GRAPHS}
    }


def _declared_shape(entry: Any) -> list[int | None] | None:
    """Return the shape of the input, with None for what is not fixed; None if there is none."""
    kind = entry.type.tensor_type
    if kind.elem_type not in FLOATS:
        raise FormatError(f"expected a floating-point input {entry.name[:80]!r}")
    if not kind.HasField("shape"):
        return None
    if not 2 <= len(kind.shape.dim) <= MAX_DIMENSIONS:
        raise FormatError(
            f"expected an input of shape (rows, columns), got {len(kind.shape.dim)} dimensions"
        )
    return [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]
