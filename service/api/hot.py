"""What a call on the hot path is given and gives; see `service.api.middleware.hot_path`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from service.api.dependencies import Services
from service.application.served import Served


class HotRequest(NamedTuple):
    """A request of which all is known and nothing is unusual.

    Attributes
    ----------
    model
        How the path names the network.
    version
        How the path names the version; None where it names none.
    headers
        Those that `hot_path.PLAIN` names, as they came.
    """

    model: str
    version: str | None
    headers: Mapping[bytes, bytes]
    body: bytes


class HotAnswer(NamedTuple):
    """The body of a 200, and its headers but for the length."""

    body: bytes
    headers: list[tuple[bytes, bytes]]


HotCall = Callable[[Services, Served, HotRequest], HotAnswer | None]
"""Answers on the loop, or returns None (or raises) where the ordinary road should."""
