"""Models as named arrays: what npz and safetensors have in common.

Ours are called ``layers.0.weights`` (inputs, units) and ``layers.0.biases``, beside a description
in JSON. Those of others carry no description; what they leave open is assumed, and said.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from core.activations import ACTIVATIONS
from core.arrays import Array
from core.errors import FormatError, NonFiniteError, ShapeError
from core.formats.base import Model
from core.formats.json_format import NAME, VERSION, NativeJson
from core.layers import Dense
from core.network import LayerWeights, Network

MAX_DESCRIPTION_BYTES: Final = 1 << 20
"""Bytes that the description may take, beside the arrays."""

MAX_LAYERS: Final = 1000


def arrays_of(model: Model) -> dict[str, Array]:
    """Return the numbers of every dense layer."""
    found = {}
    for index, part in enumerate(model.network.layer_weights()):
        if part is not None:
            found[f"layers.{index}.weights"] = part.weights
            found[f"layers.{index}.biases"] = part.biases
    return found


def description_of(model: Model) -> str:
    """Return what the arrays do not tell, as JSON."""
    spec = model.network.spec()
    spec["labels"] = None if model.labels is None else list(model.labels)
    described = {
        "format": NAME,
        "format_version": VERSION,
        "network": spec,
        "preprocessing": model.preprocessing.to_document(),
    }
    return json.dumps(described, ensure_ascii=False, separators=(",", ":"))


def model_of(description: str, arrays: Mapping[str, Array], max_parameters: int) -> Model:
    """Return the model of our own arrays."""
    check_count(arrays, max_parameters)
    document, described = _described(description)
    layers: list[dict[str, Any]] = []
    counted = 0
    for index, layer in enumerate(described):
        entry = {"type": layer.get("type") if isinstance(layer, dict) else None}
        if entry["type"] == "dense":
            for name in ("weights", "biases"):
                key = f"layers.{index}.{name}"
                if key not in arrays:
                    raise FormatError(f"the array {key} is missing", path=(key,))
                entry[name] = arrays[key]
                counted += arrays[key].size
        layers.append(entry)
    # The reader of the JSON document checks every shape and number.
    return NativeJson().read({**document, "layers": layers}, max_parameters=counted)


def _described(description: str) -> tuple[dict[str, Any], list[Any]]:
    """Return what a description says, and the layers that it names."""
    if len(description) > MAX_DESCRIPTION_BYTES:
        raise FormatError(f"the description is longer than {MAX_DESCRIPTION_BYTES} characters")
    try:
        document = json.loads(description)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError("the description is no JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("network"), dict):
        raise FormatError("the description lacks its network", path=("network",))
    layers = document["network"].get("layers")
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        problem = f"the network's layers are a list of at most {MAX_LAYERS}"
        raise FormatError(problem, path=("network", "layers"))
    return document, layers


def check_count(arrays: Mapping[str, Array], max_parameters: int) -> None:
    """Refuse arrays that hold more numbers than a network may."""
    count = sum(array.size for array in arrays.values())
    if count > max_parameters:
        raise FormatError(f"the file holds {count} numbers, a network at most {max_parameters}")


def model_of_others(arrays: Mapping[str, Array], max_parameters: int) -> Model:
    """Return the model of arrays that somebody else wrote: weights and biases in turn."""
    check_count(arrays, max_parameters)
    names = sorted(arrays, key=_natural)
    weights = [(name, arrays[name]) for name in names if arrays[name].ndim == 2]
    biases = [arrays[name] for name in names if arrays[name].ndim == 1]
    if not weights or len(weights) != len(biases):
        problem = (
            f"as many matrices of weights as vectors of biases are due, got {len(weights)} and "
            f"{len(biases)}"
        )
        raise FormatError(problem)
    turned = weights[0][0].endswith("weight")  # PyTorch's, (units, inputs)
    parts = [
        LayerWeights(matrix.T if turned else matrix, vector)
        for (_, matrix), vector in zip(weights, biases, strict=True)
    ]
    notes = ["the weights were taken as (units, inputs), as PyTorch has them"] if turned else []
    notes.append("the file names no activations: relu between the layers, linear at the end")
    return assembled(parts, ["relu"] * (len(parts) - 1) + ["linear"], tuple(notes))


def assembled(
    parts: Sequence[LayerWeights],
    activations: Sequence[str],
    notes: tuple[str, ...],
    labels: tuple[str, ...] | None = None,
) -> Model:
    """Return a model of dense layers, every shape and number checked."""
    width = parts[0].weights.shape[0]
    dtype = np.result_type(*(part.weights.dtype for part in parts))
    name = "float64" if dtype == np.float64 else "float32"
    layers = []
    for index, (part, activation) in enumerate(zip(parts, activations, strict=True)):
        place = ("layers", index)
        if part.weights.shape[0] != width or part.biases.shape != part.weights.shape[1:]:
            got = part.weights.shape
            raise ShapeError("weights", expected=(width, len(part.biases)), got=got, path=place)
        width = part.weights.shape[1]
        layers.append(Dense(width, ACTIVATIONS[activation]()))
        with np.errstate(over="ignore"):
            finite = all(np.isfinite(array.astype(name)).all() for array in part)
        if not finite:
            raise NonFiniteError(f"layer {index} as {name}", path=place)
    network = Network(parts[0].weights.shape[0], layers, name)
    network.load_layer_weights(parts)
    return Model(network, labels, notes=notes)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts "layer.10" after "layer.9"."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", name)
    ]
