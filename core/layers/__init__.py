"""The layers, one per file, and the table of all layers."""

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
    """Return the layer for a configuration, a mapping with a ``type``.

    Raises
    ------
    ConfigurationError
        If the configuration is not a mapping, names no layer or has an invalid field.
    """
    if not isinstance(config, Mapping):
        raise ConfigurationError("a layer must be an object with the field type")
    name = config.get("type")
    if not isinstance(name, str) or name not in LAYERS:
        raise UnknownTypeError("layer", name, LAYERS, path=("type",))
    return LAYERS[name].from_config({k: v for k, v in config.items() if k != "type"})


__all__ = ["LAYERS", "Dense", "Dropout", "Layer", "layer_from"]
