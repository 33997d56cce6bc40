"""A network that fits the data, for those who did not say which they want."""

from typing import Any, Final

from service.domain.datasets import Dataset

HIDDEN_UNITS: Final = 32


def default_layers(dataset: Dataset, hidden: list[int] | None) -> list[dict[str, Any]]:
    """Return layers from the dataset's columns to its classes or numbers.

    Parameters
    ----------
    hidden
        Units of the relu layers in between; None is one layer of 32.
    """
    layers: list[dict[str, Any]] = [
        {"type": "dense", "units": units, "activation": "relu"}
        for units in ([HIDDEN_UNITS] if hidden is None else hidden)
    ]
    if dataset.labels is None:
        last = {"type": "dense", "units": dataset.outputs, "activation": "linear"}
    else:
        last = {"type": "dense", "units": len(dataset.labels), "activation": "softmax"}
    return [*layers, last]
