"""The native JSON: shortest round-trip decimals, so that every bit comes back."""

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
            problem = f"format_version {version!r:.80} is unknown; this reads version {VERSION}"
            raise FormatError(problem, path=("format_version",))
        known = {"format", "format_version", "network", "preprocessing", "layers", "sha256"}
        for key in document.keys() - known:
            raise FormatError("unknown field", path=(key,))
        spec = document.get("network")
        if not isinstance(spec, Mapping):
            raise FormatError("the document needs its network", path=("network",))
        network = network_from(spec, max_parameters)
        labels = _labels(spec.get("labels"))
        try:
            preprocessing = Preprocessing.from_document(
                document.get("preprocessing"), network.inputs, network.units
            )
        except EngineError as error:
            raise error.under("preprocessing") from None
        if preprocessing.targets is not None and network.output_activation != "linear":
            problem = f"outputs of {network.output_activation} cannot be scaled back"
            raise FormatError(problem, path=("preprocessing", "targets"))
        network.load_layer_weights(read_layers(document.get("layers"), network))
        digest = document.get("sha256")
        if digest is not None and digest != network.sha256():
            problem = "sha256 does not match the numbers; the document was changed or cut"
            raise FormatError(problem, path=("sha256",))
        return Model(network, labels, preprocessing)


def network_from(spec: Mapping[str, Any], max_parameters: int | None = None) -> Network:
    """Return the network that the ``network`` member describes, its places under that name."""
    for key in spec.keys() - {"input_shape", "layers", "labels", "dtype"}:
        raise FormatError("unknown field", path=("network", key))
    for key in ("input_shape", "layers"):
        if not isinstance(spec.get(key), list):
            raise FormatError(f"{key} must be a list", path=("network", key))
    try:
        return Network.from_spec(spec, max_parameters=max_parameters)
    except EngineError as error:
        raise error.under("network") from None


def read_layers(layers: object, network: Network) -> list[LayerWeights | None]:
    """Return the numbers of each layer, checked against the network's shapes."""
    if not isinstance(layers, list) or len(layers) != len(network.layers):
        raise ShapeError(
            "layers",
            expected=(len(network.layers),),
            got=(len(layers) if isinstance(layers, list) else 0,),
            path=("layers",),
        )
    found: list[LayerWeights | None] = []
    for index, (entry, layer) in enumerate(zip(layers, network.layers, strict=True)):
        place = ("layers", index)
        if not isinstance(entry, Mapping) or entry.get("type") != layer.type:
            raise FormatError(f"this layer must be of type {layer.type!r}", path=place)
        known = {"type", "weights", "biases"} if isinstance(layer, Dense) else {"type"}
        for key in entry.keys() - known:
            raise FormatError("unknown field", path=(*place, key))
        if not isinstance(layer, Dense):
            found.append(None)
            continue
        shape = (network.widths[index], layer.units)
        weights = numbers(entry.get("weights"), shape, network.dtype, (*place, "weights"))
        biases = numbers(entry.get("biases"), shape[1:], network.dtype, (*place, "biases"))
        found.append(LayerWeights(weights, biases))
    return found


def numbers(values: object, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> Array:
    """Return nested lists as a finite array of exactly that shape, or name the wrong place.

    An array of numbers is taken as it is, and held to the same.
    """
    if isinstance(values, np.ndarray):
        return _checked(values, shape, dtype, path)
    if not isinstance(values, list) or len(values) != shape[0]:
        got = (len(values),) if isinstance(values, list) else ()
        raise ShapeError(_spelled(path), expected=shape, got=got, path=path)
    if len(shape) == 2:
        return np.stack(
            [numbers(row, shape[1:], dtype, (*path, index)) for index, row in enumerate(values)]
        )
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FormatError("a number is due here", path=(*path, index))
    try:
        return _checked(np.array(values, np.float64), shape, dtype, path)
    except OverflowError:
        raise NonFiniteError(_spelled(path), path=path) from None


def _checked(values: Array, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> Array:
    """Return an array in ``dtype``, or say what of its shape or its numbers is not as due."""
    if values.shape != shape:
        raise ShapeError(_spelled(path), expected=shape, got=values.shape, path=path)
    with np.errstate(over="ignore"):  # an overflow shows as infinity, which is refused below
        array = values.astype(dtype)
    finite = np.isfinite(array)
    if not finite.all():
        at = np.argwhere(~finite)[0].tolist()
        raise NonFiniteError(f"{_spelled(path)} as {dtype.name}", path=(*path, *at))
    return array


def _spelled(path: Path) -> str:
    """Return a place as people write it: layers[0].weights[2]."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)[1:]


def _labels(labels: object) -> tuple[str, ...] | None:
    """Return the document's labels."""
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ConfigurationError("labels must be strings", path=("network", "labels"))
    return tuple(labels)


def write(model: Model) -> bytes:
    """Return the native document, the same bytes for the same model."""
    network = model.network
    spec = network.spec()
    spec["labels"] = None if model.labels is None else list(model.labels)
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
        "network": spec,
        "preprocessing": model.preprocessing.to_document(),
    }
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":"))[:-1]
    return f'{text},"layers":[{",".join(layers)}],"sha256":"{network.sha256()}"}}'.encode()


def _decimals(row: Array) -> str:
    """Return the shortest decimals that give each number back in its own dtype."""
    # astype(str) gives the same, but lets go of the interpreter too often for others to get it.
    return "[" + ",".join(map(str, row)) + "]"
