"""Storage of weights, datasets and checkpoints."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol


class BlobStore(Protocol):
    """Stores bytes under the name of their SHA-256 digest."""

    async def put(self, data: bytes) -> str:
        """Store bytes durably and return their name."""

    async def get(self, name: str) -> bytes:
        """Return the bytes; raise BlobCorruptError if they are missing or have changed."""

    def path(self, name: str) -> Path:
        """Return the path of the bytes on this machine, for workers."""

    async def sweep(self, keep: Collection[str], *, grace: float) -> int:
        """Delete blobs not in ``keep`` and older than ``grace`` seconds; return their number."""

    async def ping(self) -> None:
        """Raise UnavailableError if bytes cannot be written."""


class BlobCorruptError(Exception):
    """A blob is missing, or its bytes do not match its name."""
