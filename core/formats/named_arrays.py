"""Models as named arrays, the common part of npz and safetensors.

Files of this server name their arrays ``layers.0.weights``, (inputs, units), and
``layers.0.biases``, (units,), and contain a description in JSON. Files of other tools contain no
description. The model's notes list what is then assumed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations
from typing import Any, Final, NamedTuple

import numpy as np

from core.activations import Activation, Linear, ReLU
from core.arrays import Array
from core.errors import FormatError, NonFiniteError, ShapeError
from core.formats.base import Model
from core.formats.json_format import NAME, VERSION, NativeJson
from core.layers import Dense
from core.network import LayerWeights, Network

MAX_DESCRIPTION_BYTES: Final = 1 << 20
"""Maximum size of the description, without the arrays."""

MAX_LAYERS: Final = 1000
MAX_ORDERED_BY_SHAPE: Final = 8
"""Layers whose order is found by their shapes, which takes time for each possible order."""

NUMBER: Final = re.compile(r"\d+")
ROLE: Final = re.compile(
    r"(?P<layer>.*?)[._/]?(?P<role>weights?|kernel|bias|biases)(:0)?", re.IGNORECASE
)
TRANSPOSED: Final = re.compile(r"weight$", re.IGNORECASE)
"""PyTorch's name of a matrix (units, inputs)."""


def weights_by_name(model: Model) -> dict[str, Array]:
    """Return the weights (inputs, units) and the biases (units,) of dense layers by array name."""
    arrays = {}
    for index, part in enumerate(model.network.layer_weights()):
        if part is not None:
            arrays[f"layers.{index}.weights"] = part.weights
            arrays[f"layers.{index}.biases"] = part.biases
    return arrays


def description_json(model: Model) -> str:
    """Return everything except the weights as JSON."""
    config = model.network.config()
    config["labels"] = None if model.labels is None else list(model.labels)
    description = {
        "format": NAME,
        "format_version": VERSION,
        "network": config,
        "preprocessing": model.preprocessing.config(),
    }
    return json.dumps(description, ensure_ascii=False, separators=(",", ":"))


def read_described(description: str, arrays: Mapping[str, Array], max_parameters: int) -> Model:
    """Return the model for arrays with a description, as this server writes them."""
    check_parameter_count(arrays, max_parameters)
    document, layer_configs = _parse_description(description)
    layers: list[dict[str, Any]] = []
    parameter_count = 0
    for index, layer in enumerate(layer_configs):
        entry = {"type": layer.get("type") if isinstance(layer, dict) else None}
        if entry["type"] == "dense":
            for name in ("weights", "biases"):
                key = f"layers.{index}.{name}"
                if key not in arrays:
                    raise FormatError(f"the array {key} is missing", path=(key,))
                entry[name] = arrays[key]
                parameter_count += arrays[key].size
        layers.append(entry)
    # The reader of the JSON document validates all shapes and values.
    return NativeJson().read({**document, "layers": layers}, max_parameters=parameter_count)


def _parse_description(description: str) -> tuple[dict[str, Any], list[Any]]:
    """Return the parsed description and its list of layers."""
    if len(description) > MAX_DESCRIPTION_BYTES:
        raise FormatError(f"the description exceeds {MAX_DESCRIPTION_BYTES} characters")
    try:
        document = json.loads(description)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError("the description is not valid JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("network"), dict):
        raise FormatError("the description requires the object network", path=("network",))
    layers = document["network"].get("layers")
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        problem = f"layers must be a list of at most {MAX_LAYERS} layers"
        raise FormatError(problem, path=("network", "layers"))
    return document, layers


def check_parameter_count(arrays: Mapping[str, Array], max_parameters: int) -> None:
    """Raise FormatError if the arrays have more than ``max_parameters`` elements."""
    count = sum(array.size for array in arrays.values())
    if count > max_parameters:
        raise FormatError(f"the file has {count} parameters, the maximum is {max_parameters}")


def read_undescribed(
    arrays: Mapping[str, Array], max_parameters: int, *, is_ordered: bool
) -> Model:
    """Return the model for arrays without a description: weights and biases by layer.

    Parameters
    ----------
    is_ordered
        True if ``arrays`` has the order in which the arrays were saved.
    """
    check_parameter_count(arrays, max_parameters)
    layers = _layers(arrays, is_ordered=is_ordered)
    names = list(layers)
    notes = []
    in_pytorch = {bool(TRANSPOSED.search(layer.weights)) for layer in layers.values()}
    if len(in_pytorch) > 1:
        raise FormatError(
            "some weights have PyTorch's name, *.weight, and others have not; it is unknown which "
            "of them are transposed"
        )
    transposed = True in in_pytorch
    if transposed:
        notes.append("the weights were read as (units, inputs), as in PyTorch")
    parts = {name: _part(arrays, layer, transposed=transposed) for name, layer in layers.items()}
    if any(layer.biases is None for layer in layers.values()):
        notes.append("layers without biases were given biases of 0")
    if _are_numbered(names):
        names.sort(key=_natural)
    elif is_ordered:
        notes.append("the layers are in the order of the file, because not all names have numbers")
    elif len(names) > 1:
        names = _only_order(parts)
        notes.append(f"the order of the layers follows from their shapes: {', '.join(names)}")
    notes.append(
        "the file names no activations: assumed relu for hidden layers, linear for the last"
    )
    activations: list[Activation] = [*([ReLU()] * (len(parts) - 1)), Linear()]
    return build_model([parts[name] for name in names], activations, tuple(notes))


class _LayerNames(NamedTuple):
    """The names of a layer's arrays."""

    weights: str
    biases: str | None


def _are_numbered(names: Sequence[str]) -> bool:
    """Return True if the names differ in a single number, which then is the order of the layers."""
    numbers = [NUMBER.findall(name) for name in names]
    if len({NUMBER.sub("#", name) for name in names}) != 1:
        return False
    varying = [group for group in zip(*numbers, strict=True) if len(set(group)) > 1]
    return len(names) == 1 or len(varying) == 1


def _layers(arrays: Mapping[str, Array], *, is_ordered: bool) -> dict[str, _LayerNames]:
    """Return the arrays of each layer by the layer's name, in the order of the file.

    Raises
    ------
    FormatError
        If an array is neither the weights nor the biases of a dense layer.
    """
    for name, array in arrays.items():
        if array.ndim not in {1, 2} or not array.size:
            raise FormatError(
                f"array {name[:80]!r} of shape {array.shape} belongs to no dense layer"
            )
    roles = {name: match for name in arrays if (match := ROLE.fullmatch(name))}
    if roles:
        return _layers_by_role(arrays, roles)
    return _layers_by_position(arrays, is_ordered=is_ordered)


def _layers_by_position(arrays: Mapping[str, Array], *, is_ordered: bool) -> dict[str, _LayerNames]:
    """Return the layers of arrays whose names do not distinguish weights and biases.

    Weights and biases are in the order of their numbers, or in that of the file.
    """
    matrices = [name for name in arrays if arrays[name].ndim == 2]
    vectors = [name for name in arrays if arrays[name].ndim == 1]
    for names in (matrices, vectors):
        if _are_numbered(names):
            names.sort(key=_natural)
        elif not is_ordered:
            raise FormatError(
                "the order of the arrays is unknown; give their names consecutive numbers"
            )
    if not matrices or len(matrices) != len(vectors):
        raise FormatError(
            "expected at least one weight matrix and one bias vector per matrix, got "
            f"{len(matrices)} matrices and {len(vectors)} vectors"
        )
    pairs = zip(matrices, vectors, strict=True)
    return {matrix: _LayerNames(matrix, vector) for matrix, vector in pairs}


def _layers_by_role(
    arrays: Mapping[str, Array], roles: Mapping[str, re.Match[str]]
) -> dict[str, _LayerNames]:
    """Return the layers of arrays with names such as ``fc1.weight`` and ``fc1.bias``."""
    weights: dict[str, str] = {}
    biases: dict[str, str] = {}
    for name, array in arrays.items():
        role = roles.get(name)
        is_bias = role is not None and role["role"].lower().startswith("bias")
        named = biases if array.ndim == 1 else weights
        if role is None or is_bias is not (array.ndim == 1) or role["layer"] in named:
            kind = "biases" if array.ndim == 1 else "weights"
            raise FormatError(
                f"array {name[:80]!r} of shape {array.shape} is not the {kind} of a dense layer"
            )
        named[role["layer"]] = name
    for layer in biases.keys() - weights.keys():
        raise FormatError(f"array {biases[layer][:80]!r} belongs to no layer with weights")
    return {layer: _LayerNames(name, biases.get(layer)) for layer, name in weights.items()}


def _part(arrays: Mapping[str, Array], names: _LayerNames, *, transposed: bool) -> LayerWeights:
    """Return the weights (inputs, units) and biases (units,) of a layer."""
    weights = arrays[names.weights].T if transposed else arrays[names.weights]
    if names.biases is None:
        return LayerWeights(weights, np.zeros(weights.shape[1], weights.dtype))
    return LayerWeights(weights, arrays[names.biases])


def _only_order(parts: Mapping[str, LayerWeights]) -> list[str]:
    """Return the only order in which each layer has as many inputs as the one before has units."""
    if len(parts) > MAX_ORDERED_BY_SHAPE:
        raise FormatError(
            f"the order of {len(parts)} layers is unknown; give their names consecutive numbers"
        )
    orders = [
        order
        for order in permutations(parts)
        if all(
            parts[first].weights.shape[1] == parts[second].weights.shape[0]
            for first, second in pairwise(order)
        )
    ]
    if len(orders) != 1:
        problem = "several orders of the layers fit" if orders else "no order of the layers fits"
        listed = ", ".join(name[:40] for name in parts)
        raise FormatError(f"{problem}: {listed}; give their names consecutive numbers")
    return list(orders[0])


def build_model(
    parts: Sequence[LayerWeights],
    activations: Sequence[Activation],
    notes: tuple[str, ...],
    labels: tuple[str, ...] | None = None,
) -> Model:
    """Return a model of dense layers after a check of all shapes and values.

    Parameters
    ----------
    parts
        Weights (inputs, units) and biases (units,) of each layer.
    activations
        One for each layer.
    notes, labels
        As in `Model`.

    Raises
    ------
    ShapeError, NonFiniteError
        If a layer does not match the layer before, or has a value that is not finite.
    """
    width = parts[0].weights.shape[0]
    dtype = np.result_type(*(part.weights.dtype for part in parts))
    name = "float64" if dtype == np.float64 else "float32"
    layers = []
    for index, (part, activation) in enumerate(zip(parts, activations, strict=True)):
        path = ("layers", index)
        if part.weights.shape[0] != width or part.biases.shape != part.weights.shape[1:]:
            got = part.weights.shape
            raise ShapeError("weights", expected=(width, len(part.biases)), got=got, path=path)
        width = part.weights.shape[1]
        layers.append(Dense(width, activation))
        with np.errstate(over="ignore"):
            finite = all(np.isfinite(array.astype(name)).all() for array in part)
        if not finite:
            raise NonFiniteError(f"layer {index} as {name}", path=path)
    network = Network(parts[0].weights.shape[0], layers, name)
    network.load_layer_weights(parts)
    return Model(network, labels, notes=notes)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that orders "layer.10" after "layer.9"."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", name)
    ]
