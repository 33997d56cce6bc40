"""Models as named arrays, the common part of npz and safetensors.

Files of this server name their arrays ``layers.0.weights``, (inputs, units), and
``layers.0.biases``, (units,), and contain a description in JSON. Files of other tools contain no
description. The model's notes list what is then assumed.
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
"""Maximum size of the description, without the arrays."""

MAX_LAYERS: Final = 1000


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


def read_undescribed(arrays: Mapping[str, Array], max_parameters: int) -> Model:
    """Return the model for arrays without a description: weights and biases by layer."""
    check_parameter_count(arrays, max_parameters)
    names = sorted(arrays, key=_natural)
    weights = [(name, arrays[name]) for name in names if arrays[name].ndim == 2]
    biases = [arrays[name] for name in names if arrays[name].ndim == 1]
    if not weights or len(weights) != len(biases):
        problem = (
            "expected at least one weight matrix and one bias vector per matrix, got "
            f"{len(weights)} matrices and {len(biases)} vectors"
        )
        raise FormatError(problem)
    transposed = weights[0][0].endswith("weight")  # as in PyTorch, (units, inputs)
    parts = [
        LayerWeights(matrix.T if transposed else matrix, vector)
        for (_, matrix), vector in zip(weights, biases, strict=True)
    ]
    notes = ["the weights were read as (units, inputs), as in PyTorch"] if transposed else []
    notes.append(
        "the file names no activations: assumed relu for hidden layers, linear for the last"
    )
    return build_model(parts, ["relu"] * (len(parts) - 1) + ["linear"], tuple(notes))


def build_model(
    parts: Sequence[LayerWeights],
    activations: Sequence[str],
    notes: tuple[str, ...],
    labels: tuple[str, ...] | None = None,
) -> Model:
    """Return a model of dense layers after a check of all shapes and values.

    Parameters
    ----------
    parts
        Weights (inputs, units) and biases (units,) of each layer.
    activations
        Name of each layer's activation.
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
        layers.append(Dense(width, ACTIVATIONS[activation]()))
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
