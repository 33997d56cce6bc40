"""Constants of an ONNX file as arrays, and its bounds, checked before anything loops over it."""

import math
from typing import Any, Final, final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from core.arrays import Array
from core.errors import FormatError

MAX_NODES: Final = 10_000
MAX_TENSORS: Final = 10_000
MAX_ALL_TENSORS: Final = 200_000
"""Including those of attributes and of graphs within the graph."""

MAX_DIMENSIONS: Final = 8
MAX_ROW_DIMENSIONS: Final = 2
"""A constant with more dimensions would give the rows more as well."""

MAX_ATTRIBUTES: Final = 32
"""Maximum attributes, inputs or outputs of a node."""

FLOATS: Final = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
)


def check_bounds(graph: onnx.GraphProto) -> None:
    """Raise FormatError if a graph has more parts than any dense network."""
    for kind, count, maximum in (
        ("nodes", len(graph.node), MAX_NODES),
        ("tensors", len(graph.initializer) + len(graph.sparse_initializer), MAX_TENSORS),
        ("inputs and outputs", len(graph.input) + len(graph.output), MAX_TENSORS),
    ):
        if count > maximum:
            raise FormatError(f"the graph has {count} {kind}, the maximum is {maximum}")
    if graph.sparse_initializer:
        raise FormatError("sparse tensors are not supported")
    for node in graph.node:
        parts = max(len(node.attribute), len(node.input), len(node.output))
        if parts > MAX_ATTRIBUTES:
            raise FormatError(
                f"node {node.name[:80]!r} ({node.op_type[:40]}) has {parts} inputs, outputs or "
                f"attributes, the maximum is {MAX_ATTRIBUTES}"
            )


def check_external_data(graph: onnx.GraphProto) -> None:
    """Raise FormatError if any tensor is stored in another file, wherever it stands."""
    graphs, seen = [graph], 0
    while graphs:
        current = graphs.pop()
        attributes = [attribute for node in current.node for attribute in node.attribute]
        sparse = [*current.sparse_initializer]
        tensors = [*current.initializer]
        for attribute in attributes:
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
            tensors += [attribute.t, *attribute.tensors]
            graphs += attribute.graphs
            if attribute.HasField("g"):
                graphs.append(attribute.g)
        tensors += [part for tensor in sparse for part in (tensor.values, tensor.indices)]
        seen += len(tensors)
        if seen + len(graphs) > MAX_ALL_TENSORS:
            raise FormatError(f"the file has more than {MAX_ALL_TENSORS} tensors")
        for tensor in tensors:
            if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
                raise FormatError(
                    f"tensor {tensor.name[:80]!r} is stored in another file; save the weights "
                    "inside the ONNX file"
                )


@final
class Constants:
    """The constants of a graph, whose elements count every time they are used."""

    def __init__(self, max_parameters: int) -> None:
        self._max_parameters = self._left = max_parameters
        self.half_precision = False

    def floats(self, value: object, name: str) -> Array:
        """Return a constant with floating-point values as an array in float32 or float64."""
        array = self._array(value, name)
        if array.dtype.kind != "f":
            raise FormatError(f"expected floating-point values in {name[:80]!r}, got {array.dtype}")
        return array

    def exact(self, value: object, name: str) -> Array:
        """Return a constant with floating-point values as a vector in float64."""
        array = self.floats(value, name)
        too_many = array.ndim > MAX_ROW_DIMENSIONS
        if too_many or not array.size or (array.ndim and array.shape[-1] != array.size):
            raise FormatError(f"expected a value or a row in {name[:80]!r}, got {array.shape}")
        return array.astype(np.float64).reshape(-1)

    def integers(self, value: object, name: str) -> list[int]:
        """Return a constant with integers, such as a shape or axes."""
        array = self._array(value, name)
        if array.dtype.kind not in "iu" or array.size > MAX_DIMENSIONS:
            raise FormatError(f"expected at most {MAX_DIMENSIONS} integers in {name[:80]!r}")
        return [int(number) for number in array.reshape(-1)]

    def names(self, value: object, name: str) -> tuple[str, ...]:
        """Return a constant with names of classes."""
        array = self._array(value, name)
        if array.size > max(array.shape, default=1):
            raise FormatError(f"expected a list of names in {name[:80]!r}, got {array.shape}")
        values = array.reshape(-1).tolist()
        return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in values)

    def _array(self, value: object, name: str) -> Array:
        if isinstance(value, np.ndarray):
            array: Array = value
        elif isinstance(value, TensorProto):
            array = self._converted(value, name)
        else:
            raise FormatError(f"expected {name[:80]!r} to be a constant; it is computed")
        self._left -= array.size
        if self._left < 0:
            raise FormatError(f"the file has more than {self._max_parameters} parameters")
        return array

    def _converted(self, tensor: Any, name: str) -> Array:
        """Return a stored tensor as an array; half precision becomes float32."""
        if len(tensor.dims) > MAX_DIMENSIONS or any(size < 0 for size in tensor.dims):
            raise FormatError(f"{name[:80]!r} has an invalid shape")
        if math.prod(tensor.dims) > self._left:
            raise FormatError(f"the file has more than {self._max_parameters} parameters")
        array: Array = numpy_helper.to_array(tensor)
        if tensor.data_type in {TensorProto.FLOAT16, TensorProto.BFLOAT16}:
            self.half_precision = True
            return array.astype(np.float32)
        return array
