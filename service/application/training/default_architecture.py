"""The default layers for a dataset, used when a request does not give any."""

from typing import Any, Final

from service.domain.datasets import Dataset

DEFAULT_HIDDEN_UNITS: Final = 32


def default_layers(dataset: Dataset, hidden: list[int] | None) -> list[dict[str, Any]]:
    """Return layers that map the dataset's columns to its classes or target values.

    Parameters
    ----------
    hidden
        Units of each hidden relu layer; None means one layer of 32 units.
    """
    layers: list[dict[str, Any]] = [
        {"type": "dense", "units": units, "activation": "relu"}
        for units in ([DEFAULT_HIDDEN_UNITS] if hidden is None else hidden)
    ]
    if dataset.labels is None:
        last = {"type": "dense", "units": dataset.outputs, "activation": "linear"}
    else:
        last = {"type": "dense", "units": len(dataset.labels), "activation": "softmax"}
    return [*layers, last]
