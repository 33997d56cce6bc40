"""Weights of a document on the layers that a network has."""

import numpy as np

from core.formats import Model
from core.layers import Dense, Dropout
from core.network import LayerWeights, Network
from service.domain.errors import InvalidRequestError, pointer
from service.domain.networks import NetworkRecord


def _numbered(network: Network) -> list[tuple[int, Dense]]:
    """Return the dense layers with their index; the others hold no numbers."""
    layers = enumerate(network.layers)
    return [(index, layer) for index, layer in layers if isinstance(layer, Dense)]


def check_same_layers(given: Network, target: Network) -> None:
    """Refuse weights of another architecture, naming the layer."""
    theirs, ours = _numbered(given), _numbered(target)
    if given.inputs != target.inputs or len(theirs) != len(ours):
        problem = (
            f"the network takes {target.inputs} inputs through {len(ours)} dense layers, "
            f"the document {given.inputs} through {len(theirs)}"
        )
        raise InvalidRequestError.at("/layers", "shape_error", problem)
    for (index, one), (_, other) in zip(theirs, ours, strict=True):
        for key in ("units", "activation", "negative_slope"):
            told, due = one.config().get(key), other.config().get(key)
            if told != due:
                problem = f"layer {index} has {key} {told!r}, the network has {due!r}"
                raise InvalidRequestError.at(pointer("layers", index), "shape_error", problem)


def _silencing(network: Network) -> dict[int, Dropout]:
    """Return the dropout layers by how many dense ones come before them."""
    found, dense = {}, 0
    for layer in network.layers:
        if isinstance(layer, Dropout):
            found[dense] = layer
        else:
            dense += 1
    return found


def not_taken(model: Model, network: NetworkRecord, target: Network) -> tuple[str, ...]:
    """Say what of a document the network has otherwise, and keeps."""
    notes = list(model.notes)
    if model.labels is not None and list(model.labels) != network.effective_labels:
        notes.append("its labels were not taken: the network keeps its own")
    if model.network.dtype != target.dtype:
        notes.append(f"its numbers were taken as {target.dtype.name}, the network's")
    theirs, ours = _silencing(model.network), _silencing(target)
    if theirs and theirs != ours:
        notes.append("its dropout was not taken: the network keeps its own")
    return tuple(notes)


def in_dtype_of(target: Network, given: Network) -> list[LayerWeights | None]:
    """Return the numbers of the target's layers in its dtype, or name one that it cannot hold."""
    found: list[LayerWeights | None] = [None] * len(target.layers)
    homes = (index for index, _ in _numbered(target))
    for index, part in enumerate(given.layer_weights()):
        if part is None:
            continue
        with np.errstate(over="ignore"):  # an overflow shows as infinity, which is refused
            cast = LayerWeights(*(array.astype(target.dtype) for array in part))
        for name, array in zip(LayerWeights._fields, cast, strict=True):
            if not np.isfinite(array).all():
                at = np.argwhere(~np.isfinite(array))[0].tolist()
                problem = f"the number is too large for {target.dtype.name}"
                raise InvalidRequestError.at(
                    pointer("layers", index, name, *at), "not_finite", problem
                )
        found[next(homes)] = cast
    return found
