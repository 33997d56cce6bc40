"""The native JSON format. Shortest round-trip decimals restore weights bit by bit."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, final

import numpy as np

from core.arrays import Array
from core.errors import (
    ConfigurationError,
    EngineError,
    FormatError,
    NonFiniteError,
    Path,
    ShapeError,
)
from core.formats.base import DocumentFormat, Model
from core.layers import Dense
from core.network import LayerWeights, Network
from core.preprocessing import Preprocessing

NAME: Final = "neurond-weights"
VERSION: Final = 1


@final
class NativeJson(DocumentFormat):
    """``{"format": "neurond-weights", "format_version": 1, "network", "layers", ...}``."""

    type: ClassVar[str] = NAME

    def recognizes(self, document: Mapping[str, Any]) -> bool:
        return "format" in document

    def read(self, document: Mapping[str, Any], *, max_parameters: int | None = None) -> Model:
        if document.get("format") != NAME:
            problem = f"format must be {NAME!r}, got {str(document.get('format'))[:80]!r}"
            raise FormatError(problem, path=("format",))
        version = document.get("format_version")
        if version != VERSION or type(version) is not int:
            problem = f"unknown format_version {version!r:.80}, expected {VERSION}"
            raise FormatError(problem, path=("format_version",))
        known = {"format", "format_version", "network", "preprocessing", "layers", "sha256"}
        for key in document.keys() - known:
            raise FormatError("unknown field", path=(key,))
        config = document.get("network")
        if not isinstance(config, Mapping):
            raise FormatError("the document requires the object network", path=("network",))
        network = read_network(config, max_parameters)
        labels = _labels(config.get("labels"))
        try:
            preprocessing = Preprocessing.from_config(
                document.get("preprocessing"), network.inputs, network.units
            )
        except EngineError as error:
            raise error.under("preprocessing") from None
        if preprocessing.targets is not None and network.output_activation != "linear":
            problem = (
                "scaled targets require the output activation linear, got "
                f"{network.output_activation}"
            )
            raise FormatError(problem, path=("preprocessing", "targets"))
        network.load_layer_weights(read_layers(document.get("layers"), network))
        digest = document.get("sha256")
        if digest is not None and digest != network.sha256():
            problem = "sha256 does not match the weights; the document was modified or truncated"
            raise FormatError(problem, path=("sha256",))
        return Model(network, labels, preprocessing)


def read_network(config: Mapping[str, Any], max_parameters: int | None = None) -> Network:
    """Return the network for the ``network`` member. Error paths start with "network"."""
    for key in config.keys() - {"input_shape", "layers", "labels", "dtype"}:
        raise FormatError("unknown field", path=("network", key))
    for key in ("input_shape", "layers"):
        if not isinstance(config.get(key), list):
            raise FormatError(f"{key} must be a list", path=("network", key))
    try:
        return Network.from_config(config, max_parameters=max_parameters)
    except EngineError as error:
        raise error.under("network") from None


def read_layers(layers: object, network: Network) -> list[LayerWeights | None]:
    """Return the weights and biases of each layer, validated against the network's shapes.

    Returns
    -------
    layer_weights
        Weights (inputs, units) and biases (units,) of each dense layer. None for other layers.
    """
    if not isinstance(layers, list) or len(layers) != len(network.layers):
        raise ShapeError(
            "layers",
            expected=(len(network.layers),),
            got=(len(layers) if isinstance(layers, list) else 0,),
            path=("layers",),
        )
    layer_weights: list[LayerWeights | None] = []
    for index, (entry, layer) in enumerate(zip(layers, network.layers, strict=True)):
        path = ("layers", index)
        if not isinstance(entry, Mapping) or entry.get("type") != layer.type:
            raise FormatError(f"expected a layer of type {layer.type!r}", path=path)
        known = {"type", "weights", "biases"} if isinstance(layer, Dense) else {"type"}
        for key in entry.keys() - known:
            raise FormatError("unknown field", path=(*path, key))
        if not isinstance(layer, Dense):
            layer_weights.append(None)
            continue
        shape = (network.widths[index], layer.units)
        weights = parse_array(entry.get("weights"), shape, network.dtype, (*path, "weights"))
        biases = parse_array(entry.get("biases"), shape[1:], network.dtype, (*path, "biases"))
        layer_weights.append(LayerWeights(weights, biases))
    return layer_weights


def parse_array(values: object, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> Array:
    """Return nested lists as a finite array of exactly the given shape.

    An array is also accepted, and validated in the same way.

    Raises
    ------
    EngineError
        If the shape differs, or a value is not a finite number. The path locates the value.
    """
    if isinstance(values, np.ndarray):
        return _validate_array(values, shape, dtype, path)
    if not isinstance(values, list) or len(values) != shape[0]:
        got = (len(values),) if isinstance(values, list) else ()
        raise ShapeError(_format_path(path), expected=shape, got=got, path=path)
    if len(shape) == 2:
        return np.stack(
            [parse_array(row, shape[1:], dtype, (*path, index)) for index, row in enumerate(values)]
        )
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FormatError("expected a number", path=(*path, index))
    try:
        return _validate_array(np.array(values, np.float64), shape, dtype, path)
    except OverflowError:
        raise NonFiniteError(_format_path(path), path=path) from None


def _validate_array(
    values: Array, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path
) -> Array:
    """Return an array in ``dtype`` after a check of its shape and its values."""
    if values.shape != shape:
        raise ShapeError(_format_path(path), expected=shape, got=values.shape, path=path)
    with np.errstate(over="ignore"):  # an overflow becomes infinity, which is rejected below
        array = values.astype(dtype)
    finite = np.isfinite(array)
    if not finite.all():
        position = np.argwhere(~finite)[0].tolist()
        raise NonFiniteError(f"{_format_path(path)} as {dtype.name}", path=(*path, *position))
    return array


def _format_path(path: Path) -> str:
    """Return a path in the form ``layers[0].weights[2]``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)[1:]


def _labels(labels: object) -> tuple[str, ...] | None:
    """Return the labels of the document."""
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ConfigurationError("labels must be a list of strings", path=("network", "labels"))
    return tuple(labels)


def write(model: Model) -> bytes:
    """Return the native document. Equal models give equal bytes."""
    network = model.network
    config = network.config()
    config["labels"] = None if model.labels is None else list(model.labels)
    layers = []
    for layer, part in zip(network.layers, network.layer_weights(), strict=True):
        entry = f'{{"type":"{layer.type}"'
        if part is not None:
            rows = ",".join(_decimals(row) for row in part.weights)
            entry += f',"weights":[{rows}],"biases":{_decimals(part.biases)}'
        layers.append(entry + "}")
    head = {
        "format": NAME,
        "format_version": VERSION,
        "network": config,
        "preprocessing": model.preprocessing.config(),
    }
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":"))[:-1]
    return f'{text},"layers":[{",".join(layers)}],"sha256":"{network.sha256()}"}}'.encode()


def _decimals(row: Array) -> str:
    """Return the shortest decimals that restore each value of a row, (n,), in its own dtype."""
    # astype(str) gives the same result, but releases and reacquires the GIL often enough to starve
    # other threads.
    return "[" + ",".join(map(str, row)) + "]"
