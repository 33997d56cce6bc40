"""Loaded models and exported files."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, runtime_checkable

from core.formats import Model

LoadedT = TypeVar("LoadedT")


class ModelCache(Protocol[LoadedT]):
    """A cache of loaded versions that evicts the least recently used ones.

    Attributes
    ----------
    hits, misses
        Requests whose version was in the cache, and versions that had to be loaded.
    """

    hits: int
    misses: int

    def peek(self, key: tuple[str, ...]) -> LoadedT | None:
        """Return the model for a key, or None if it is not loaded."""

    async def get(self, key: tuple[str, ...], load: Callable[[], Awaitable[LoadedT]]) -> LoadedT:
        """Return the model for a key; if it is missing, concurrent requests share one ``load``."""

    def drop(self, network_id: str) -> None:
        """Evict all versions of a network."""

    def __len__(self) -> int:
        """Return the number of loaded versions."""


class ModelFiles(Protocol):
    """Reads model files, which may be hostile."""

    async def read(self, format_name: str, data: bytes) -> Model:
        """Return the model of a file.

        Raises
        ------
        InvalidRequestError
            If the file violates its format, or reading it needs too much memory or time.
        """


@runtime_checkable
class ExportCheck(Protocol):
    """A format that verifies its files against the network."""

    def check(self, model: Model, data: bytes) -> dict[str, str]:
        """Return the result as response headers; raise ConflictError on a mismatch."""
