"""Estimates the time and memory of a training, and limits the frames in its log."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.domain.datasets import Dataset
from service.domain.errors import InvalidRequestError
from service.domain.limits import Limits
from service.domain.networks import NetworkRecord

SECONDS_PER_PRODUCT: Final = 1.5e-11
SECONDS_PER_CALL: Final = 1.2e-6
CALLS_PER_LAYER: Final = 12


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated cost of a job."""

    parameters: int
    memory_bytes: int
    seconds: float
    training: dict[str, Any]


def estimate(network: NetworkRecord, dataset: Dataset, training: dict[str, Any]) -> Estimate:
    """Return the estimated cost of a training; ``training`` must be a complete config."""
    itemsize = 8 if network.dtype == "float64" else 4
    rows = dataset.rows * (1.0 - training["validation_fraction"])
    batches = math.ceil(rows / training["batch_size"])
    calls = batches * len(network.layers) * CALLS_PER_LAYER
    products = 3 * rows * network.parameter_count * itemsize / 4
    seconds = (calls * SECONDS_PER_CALL + products * SECONDS_PER_PRODUCT) * training["epochs"]
    columns = dataset.input_shape[0] + dataset.outputs
    memory = dataset.rows * columns * (8 + itemsize) + 8 * itemsize * network.parameter_count
    return Estimate(network.parameter_count, memory, round(seconds, 3), training)


def check_frames(network: NetworkRecord, training: Mapping[str, Any], limits: Limits) -> None:
    """Raise InvalidRequestError if a boundary frame would be too large for the log.

    A frame takes one byte per point and unit.
    """
    boundary = training.get("boundary")
    if boundary is None:
        return
    units = sum(layer.get("units", 0) for layer in network.layers)
    size = units * boundary["resolution"] ** 2
    if size > limits.frame_bytes:
        problem = (
            f"a boundary frame of {units} units takes {size} bytes, "
            f"expected at most {limits.frame_bytes}; use a smaller resolution"
        )
        raise InvalidRequestError.at("/training/boundary/resolution", "too_large", problem)
