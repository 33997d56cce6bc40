"""The JSON of the JavaScript original, in the variants that it has written.

(a) ``{"layers": [{"type": "Dense", "weights": [[in x out]], "biases": [[1 x out]], "inputSize",
"outputSize", "activation": "relu"}], "loss": "mse"}``

(b) ``{"version": 1, "layers": [{"type": "Dense", "weights": {"rows", "cols", "data"}, "biases":
{...}, "inputSize", "outputSize", "activation": {"name": "tanh"}}, {"type": "Dropout", "rate"}]}``

(c) as (a), with ``"weights": [in * out numbers, input by input]`` and the sizes.

JavaScript numbers are float64, so the network is read as float64.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final, final

import numpy as np

from core.activations import ACTIVATIONS, Activation
from core.arrays import Array
from core.configuration import build
from core.errors import EngineError, FormatError, ShapeError, UnknownTypeError
from core.formats.base import DocumentFormat, Model
from core.formats.json_format import parse_array
from core.layers import Dense, Dropout, Layer
from core.network import LayerWeights, Network

FLOAT64 = np.dtype("<f8")
DEFAULT_RATE: Final = 0.5
DENSE_FIELDS: Final = frozenset(
    {"type", "weights", "biases", "inputSize", "outputSize", "activation"}
)
SLOPES: Final = {"alpha": "negative_slope", "slope": "negative_slope"}
"""Names of the slope of a leaky ReLU in JavaScript libraries."""
Path = tuple[str | int, ...]


@final
class SeedJson(DocumentFormat):
    """All variants. The reader detects the variant of each layer."""

    type: ClassVar[str] = "seed-json"

    def recognizes(self, document: Mapping[str, Any]) -> bool:
        return "layers" in document and "format" not in document

    def read(self, document: Mapping[str, Any]) -> Model:
        version = document.get("version", 1)
        if version != 1 or type(version) is not int:
            problem = f"unknown version {str(version)[:80]}, expected 1"
            raise FormatError(problem, path=("version",))
        entries = document.get("layers")
        if not isinstance(entries, list) or not entries:
            raise FormatError("layers must be a list of at least one layer", path=("layers",))
        layers: list[Layer] = []
        parts: list[LayerWeights | None] = []
        notes = ["the weights are float64, as in JavaScript"]
        width: int | None = None
        for index, entry in enumerate(entries):
            layer, part, remarks = _read_layer(entry, ("layers", index), width)
            layers.append(layer)
            parts.append(part)
            notes += [f"layer {index}: {remark}" for remark in remarks]
            if part is not None:
                width = part.weights.shape[1]
        first = next((part for part in parts if part is not None), None)
        if first is None:
            raise FormatError("the document must have at least one Dense layer", path=("layers",))
        network = Network(first.weights.shape[0], layers, "float64")
        network.load_layer_weights(parts)
        notes += _notes(document)
        return Model(network, notes=tuple(notes))


def _notes(document: Mapping[str, Any]) -> list[str]:
    """Return notes on what the document lacks and what was ignored."""
    notes = ["the document has no labels, no preprocessing and no training history"]
    if "loss" in document:
        notes.append(
            f"loss {str(document['loss'])[:40]!r} was ignored: the original writes "
            '"mse" for every loss'
        )
    unknown = sorted(document.keys() - {"layers", "loss", "version"})
    return notes + [f"{str(key)[:40]!r} was ignored" for key in unknown]


def _read_layer(
    entry: object, path: Path, width: int | None
) -> tuple[Layer, LayerWeights | None, list[str]]:
    """Return a layer, its weights, and remarks on how the entry was read."""
    if not isinstance(entry, Mapping):
        raise FormatError("a layer must be an object", path=path)
    kind = entry.get("type")
    if kind == "Dropout":
        return _read_dropout(entry, path)
    if kind != "Dense":
        raise UnknownTypeError("layer type", kind, ("Dense", "Dropout"), path=(*path, "type"))
    shape = _shape(entry, path)
    if width is not None and shape[0] != width:
        raise ShapeError("weights", expected=(width, None), got=shape, path=(*path, "weights"))
    values, remarks = entry.get("weights"), _ignored(entry, DENSE_FIELDS)
    if isinstance(values, list) and values and not isinstance(values[0], list):
        flat = parse_array(values, (shape[0] * shape[1],), FLOAT64, (*path, "weights"))
        weights = flat.reshape(shape)
        remarks.append("the flat list of weights was read input by input")
    else:
        weights = _matrix(values, shape, (*path, "weights"))
    biases, transposed = _biases(entry.get("biases"), shape[1], (*path, "biases"))
    if transposed:
        remarks.append("a column of biases was read as a row")
    activation = _activation(entry.get("activation"), (*path, "activation"))
    return Dense(shape[1], activation), LayerWeights(weights, biases), remarks


def _read_dropout(entry: Mapping[str, Any], path: Path) -> tuple[Layer, None, list[str]]:
    """Return a dropout layer; its rate has no effect on predictions."""
    remarks = _ignored(entry, {"type", "rate"})
    if "rate" not in entry:
        remarks.append(f"the document has no dropout rate; {DEFAULT_RATE} was assumed")
    try:
        config = {"type": "dropout", "rate": entry.get("rate", DEFAULT_RATE)}
        return build({"dropout": Dropout}, "layer", config), None, remarks
    except EngineError as error:
        raise error.under(*path) from None


def _ignored(entry: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Return a remark for each field that is not known."""
    return [f"{str(key)[:40]!r} was ignored" for key in entry if key not in known]


def _activation(value: object, path: Path) -> Activation:
    """Return the activation for a name, or for an object with a name and a slope."""
    config: Mapping[str, Any] = value if isinstance(value, Mapping) else {"name": value}
    name = config.get("name")
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnknownTypeError("activation", name, ACTIVATIONS, path=path)
    options = {SLOPES.get(key, key): option for key, option in config.items() if key != "name"}
    try:
        return build(ACTIVATIONS, "activation", {**options, "type": name})
    except EngineError as error:
        raise error.under(*path) from None


def _shape(entry: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Return (inputSize, outputSize). Missing sizes are taken from the weights."""
    weights = entry.get("weights")
    weight_shape: tuple[object, object] = (None, None)
    if isinstance(weights, Mapping):
        weight_shape = (weights.get("rows"), weights.get("cols"))
    elif isinstance(weights, list) and weights and isinstance(weights[0], list):
        weight_shape = (len(weights), len(weights[0]))
    sizes = []
    for key, default in zip(("inputSize", "outputSize"), weight_shape, strict=True):
        size = entry.get(key, default)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise FormatError(f"{key} must be an integer of at least 1", path=(*path, key))
        sizes.append(size)
    return sizes[0], sizes[1]


def _matrix(values: object, shape: tuple[int, int], path: Path) -> Array:
    """Return a matrix from nested lists, or from an object with rows, cols and data."""
    if not isinstance(values, Mapping):
        return parse_array(values, shape, FLOAT64, path)
    got = (values.get("rows"), values.get("cols"))
    if got != shape or not all(type(size) is int for size in got):
        sizes = tuple(size if type(size) is int else 0 for size in got)
        raise ShapeError(str(path[-1]), expected=shape, got=sizes, path=path)
    data, inner = values.get("data"), (*path, "data")
    if isinstance(data, Mapping):  # a typed array after JSON.stringify
        data = [data.get(str(index)) for index in range(len(data))]
    if isinstance(data, list) and data and isinstance(data[0], list):
        return parse_array(data, shape, FLOAT64, inner)
    return parse_array(data, (shape[0] * shape[1],), FLOAT64, inner).reshape(shape)


def _biases(values: object, units: int, path: Path) -> tuple[Array, bool]:
    """Return (units,) biases from a row, a column or a flat list, and whether it was a column."""
    if isinstance(values, Mapping):
        column = values.get("cols") == 1 and values.get("rows") == units and units > 1
        return _matrix(values, (units, 1) if column else (1, units), path).ravel(), column
    nested = isinstance(values, list) and bool(values) and isinstance(values[0], list)
    if not nested:
        return parse_array(values, (units,), FLOAT64, path), False
    column = isinstance(values, list) and len(values) == units and units > 1
    return parse_array(values, (units, 1) if column else (1, units), FLOAT64, path).ravel(), column
