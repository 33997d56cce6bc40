"""All there is to know of a training between two epochs, as bytes."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from core import safetensors as tensors
from core.arrays import Array
from core.errors import FormatError, ShapeError

FORMAT: Final = "neurond-trainer-3"
OLDER: Final = "neurond-trainer-2"
"""Dropout drew otherwise and the best weights moved by leaps alone: its weights can be had, but
training cannot go on from it to the same bits."""


@dataclass(slots=True)
class Progress:
    """The numbers of a state; its arrays stand beside it.

    Attributes
    ----------
    best_loss, best_epoch
        The least monitored loss, and when it was.
    patience_loss, epochs_waited
        The loss that patience waits to see improved by more than a bit, and for how many epochs.
    """

    epoch: int = 0
    step: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    patience_loss: float = math.inf
    epochs_waited: int = 0
    stop_reason: str | None = None


def encoded(
    progress: Progress, arrays: Mapping[str, Array], generator: np.random.Generator
) -> bytes:
    """Return a state, the same bytes for equal states."""
    numbers = {
        name: None if value == math.inf else value for name, value in asdict(progress).items()
    }
    metadata = {
        "format": FORMAT,
        "progress": json.dumps(numbers),
        "generator": json.dumps(generator.bit_generator.state, default=_as_list),
    }
    return tensors.encode(arrays, metadata)


def decoded(state: bytes, homes: Mapping[str, Array], generator: np.random.Generator) -> Progress:
    """Fill arrays and generator with what a state holds, and return its numbers.

    Raises
    ------
    FormatError, ShapeError
        When the bytes are something else, of another version, or of another trainer.
    """
    arrays, metadata = read_state(state)
    if metadata["format"] != FORMAT:
        raise FormatError("the state was written by an earlier version, which trained otherwise")
    try:
        numbers: dict[str, Any] = json.loads(metadata["progress"])
        words: dict[str, Any] = json.loads(metadata["generator"])
        for name in ("best_loss", "patience_loss"):
            numbers[name] = math.inf if numbers[name] is None else numbers[name]
        progress = Progress(**numbers)
        words["state"]["state"] = np.array(words["state"]["state"], np.uint64)
        held = {name: arrays[name] for name in homes}
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("the state of the trainer is not whole") from error
    for name, home in homes.items():
        if held[name].shape != home.shape or held[name].dtype != home.dtype:
            raise ShapeError(name, expected=home.shape, got=held[name].shape)
    for name, home in homes.items():
        home[:] = held[name]
    generator.bit_generator.state = words
    return progress


def read_state(state: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of a state.

    Raises
    ------
    FormatError
        When the bytes are something else, or of another version.
    """
    arrays, metadata = tensors.decode(state)
    if metadata.get("format") not in {FORMAT, OLDER}:
        raise FormatError("these bytes are no trainer's state, or one of another version")
    return arrays, metadata


def _as_list(array: Array) -> list[int]:
    """Let JSON take the generator's array of words."""
    return array.tolist()  # type: ignore[no-any-return]
