"""What a call on the hot path is given and gives; see `service.api.inference_pipeline`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from service.api.dependencies import Services
from service.application.inference.loaded_model import LoadedModel

Array = npt.NDArray[Any]


class HotRequest(NamedTuple):
    """A request of which all is known and nothing is unusual.

    Attributes
    ----------
    model
        How the path names the network.
    headers
        Those that `hot_path.PLAIN` names, as they came.
    """

    model: str
    headers: Mapping[bytes, bytes]
    body: bytes


class HotAnswer(NamedTuple):
    """The body of a 200, and its own headers as they go over the wire, each with its line end."""

    body: bytes
    headers: bytes


class Asked(NamedTuple):
    """Rows of a request, and what turns their outputs, (rows, units), into its answer."""

    rows: Sequence[Sequence[float]] | Array
    answer: Callable[[Array], HotAnswer]


HotCall = Callable[[Services, LoadedModel, HotRequest], Asked | None]
"""Reads a request, or returns None (or raises) where the ordinary road should have it."""
