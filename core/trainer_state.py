"""Serialization of the complete state of a trainer between two epochs."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from core import safetensors as tensors
from core.arrays import Array
from core.errors import FormatError, ShapeError

FORMAT: Final = "neurond-trainer-3"
PREVIOUS_FORMAT: Final = "neurond-trainer-2"
"""An earlier format whose weights can still be read, but whose training cannot be resumed.

It drew dropout masks differently, and updated the best weights only at larger improvements.
"""


class Epoch(NamedTuple):
    """The metrics of one epoch.

    Attributes
    ----------
    epoch
        Counted from 1.
    train_loss, train_accuracy
        Averages over the batches during training, with changing weights and active dropout.
    validation_loss, validation_accuracy
        Measured after the epoch without dropout. None without a validation set.
    learning_rate
        Learning rate of the epoch.
    gradient_norm
        Mean Euclidean norm of the gradients of the batches, before the update.

    Notes
    -----
    Accuracies are None for regression.
    """

    epoch: int
    train_loss: float
    validation_loss: float | None
    train_accuracy: float | None
    validation_accuracy: float | None
    learning_rate: float
    gradient_norm: float


@dataclass(slots=True)
class Progress:
    """The scalars of a trainer state. Its arrays are stored separately.

    Attributes
    ----------
    epoch, step
        Number of completed epochs and optimizer steps.
    best_loss, best_epoch
        The lowest monitored loss, and its epoch.
    patience_loss, epochs_waited
        The loss that early stopping compares with, and the number of epochs without an improvement
        on it by more than ``min_delta``.
    stop_reason
        Why training ended. None while it continues.
    """

    epoch: int = 0
    step: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    patience_loss: float = math.inf
    epochs_waited: int = 0
    stop_reason: str | None = None


def encode_state(
    progress: Progress, arrays: Mapping[str, Array], generator: np.random.Generator
) -> bytes:
    """Return a state as bytes. Equal states give equal bytes.

    Parameters
    ----------
    progress
        The scalars.
    arrays
        Arrays of any shape by name.
    generator
        The random generator of the trainer.
    """
    progress_fields = {
        name: None if value == math.inf else value for name, value in asdict(progress).items()
    }
    metadata = {
        "format": FORMAT,
        "progress": json.dumps(progress_fields),
        "generator": json.dumps(generator.bit_generator.state, default=_as_list),
    }
    return tensors.encode(arrays, metadata)


def decode_state(
    state: bytes, destinations: Mapping[str, Array], generator: np.random.Generator
) -> Progress:
    """Restore arrays and generator in place, and return the scalars of a state.

    Parameters
    ----------
    state
        Bytes that `encode_state` returned.
    destinations
        Arrays by name that receive the arrays of the state.
    generator
        Receives the state of the random generator.

    Raises
    ------
    FormatError
        If the bytes are not a trainer state, are incomplete or were written by another version.
    ShapeError
        If an array has another shape or dtype than its destination.
    """
    arrays, metadata = read_state(state)
    if metadata["format"] != FORMAT:
        raise FormatError("the trainer state was written by an incompatible earlier version")
    try:
        progress_fields: dict[str, Any] = json.loads(metadata["progress"])
        generator_state: dict[str, Any] = json.loads(metadata["generator"])
        for name in ("best_loss", "patience_loss"):
            progress_fields[name] = (
                math.inf if progress_fields[name] is None else progress_fields[name]
            )
        progress = Progress(**progress_fields)
        generator_state["state"]["state"] = np.array(generator_state["state"]["state"], np.uint64)
        restored = {name: arrays[name] for name in destinations}
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("the trainer state is incomplete or invalid") from error
    for name, destination in destinations.items():
        if restored[name].shape != destination.shape or restored[name].dtype != destination.dtype:
            raise ShapeError(name, expected=destination.shape, got=restored[name].shape)
    for name, destination in destinations.items():
        destination[:] = restored[name]
    generator.bit_generator.state = generator_state
    return progress


def read_state(state: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of a state.

    Raises
    ------
    FormatError
        If the bytes are not a trainer state, or were written by an unknown version.
    """
    arrays, metadata = tensors.decode(state)
    if metadata.get("format") not in {FORMAT, PREVIOUS_FORMAT}:
        raise FormatError("not a trainer state of a supported version")
    return arrays, metadata


def _as_list(array: Array) -> list[int]:
    """Convert the generator's array of words for JSON."""
    return array.tolist()  # type: ignore[no-any-return]
