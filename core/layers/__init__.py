"""The layers, one a file; the table below names them all."""

from collections.abc import Mapping
from typing import Final

from core.errors import ConfigurationError, UnknownTypeError
from core.layers.base import Layer
from core.layers.dense import Dense
from core.layers.dropout import Dropout

LAYERS: Final[dict[str, type[Dense] | type[Dropout]]] = {
    layer.type: layer for layer in (Dense, Dropout)
}


def layer_from(config: object) -> Layer:
    """Return the layer that ``config``, a mapping with a ``type``, describes."""
    if not isinstance(config, Mapping):
        raise ConfigurationError("a layer must be an object with a type")
    name = config.get("type")
    if not isinstance(name, str) or name not in LAYERS:
        raise UnknownTypeError("layer", name, LAYERS, path=("type",))
    return LAYERS[name].from_config({k: v for k, v in config.items() if k != "type"})


__all__ = ["LAYERS", "Dense", "Dropout", "Layer", "layer_from"]
