"""Transfers the weights of an uploaded model to the layers of a network."""

import numpy as np

from core.formats import Model
from core.layers import Dense, Dropout
from core.network import LayerWeights, Network
from service.domain.errors import InvalidRequestError, pointer
from service.domain.networks import NetworkRecord


def _dense_layers(network: Network) -> list[tuple[int, Dense]]:
    """Return the dense layers with their indices; other layers have no parameters."""
    layers = enumerate(network.layers)
    return [(index, layer) for index, layer in layers if isinstance(layer, Dense)]


def check_same_layers(source: Network, target: Network) -> None:
    """Raise InvalidRequestError if the dense layers of two networks differ."""
    source_layers, target_layers = _dense_layers(source), _dense_layers(target)
    if source.inputs != target.inputs or len(source_layers) != len(target_layers):
        problem = (
            f"the network has {target.inputs} inputs and {len(target_layers)} dense layers, but "
            f"the uploaded model has {source.inputs} and {len(source_layers)}"
        )
        raise InvalidRequestError.at("/layers", "shape_error", problem)
    for (index, layer), (_, target_layer) in zip(source_layers, target_layers, strict=True):
        for key in ("units", "activation", "negative_slope"):
            value, expected = layer.config().get(key), target_layer.config().get(key)
            if value != expected:
                problem = f"layer {index} has {key} {value!r}, but the network has {expected!r}"
                raise InvalidRequestError.at(pointer("layers", index), "shape_error", problem)


def _dropout_layers(network: Network) -> dict[int, Dropout]:
    """Return the dropout layers by the number of dense layers before them."""
    layers, dense = {}, 0
    for layer in network.layers:
        if isinstance(layer, Dropout):
            layers[dense] = layer
        else:
            dense += 1
    return layers


def transfer_notes(model: Model, network: NetworkRecord, target: Network) -> tuple[str, ...]:
    """Return a note for each part of a model that the network ignores or converts."""
    notes = list(model.notes)
    if model.labels is not None and list(model.labels) != network.effective_labels:
        notes.append("the labels were ignored; the network's labels are unchanged")
    if network.features is not None:
        notes.append("the inputs are read in the order of the network's features")
    if model.network.dtype != target.dtype:
        notes.append(f"the weights were converted to {target.dtype.name}, the network's dtype")
    source_dropout, target_dropout = _dropout_layers(model.network), _dropout_layers(target)
    if source_dropout and source_dropout != target_dropout:
        notes.append("the dropout was ignored; the network's dropout is unchanged")
    return tuple(notes)


def cast_layer_weights(source: Network, target: Network) -> list[LayerWeights | None]:
    """Return the weights of ``source`` for each layer of ``target``, in the dtype of ``target``.

    Raises
    ------
    InvalidRequestError
        If a number is too large for the dtype.
    """
    weights: list[LayerWeights | None] = [None] * len(target.layers)
    target_indices = (index for index, _ in _dense_layers(target))
    for index, part in enumerate(source.layer_weights()):
        if part is None:
            continue
        with np.errstate(over="ignore"):  # an overflow gives infinity, which is rejected below
            cast = LayerWeights(*(array.astype(target.dtype) for array in part))
        for name, array in zip(LayerWeights._fields, cast, strict=True):
            if not np.isfinite(array).all():
                at = np.argwhere(~np.isfinite(array))[0].tolist()
                problem = f"the number is too large for {target.dtype.name}"
                raise InvalidRequestError.at(
                    pointer("layers", index, name, *at), "not_finite", problem
                )
        weights[next(target_indices)] = cast
    return weights
