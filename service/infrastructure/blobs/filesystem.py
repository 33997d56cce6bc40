"""Blobs as files in a folder, named by the sha256 of their bytes."""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final, final

from service.application.ports import BlobCorruptError
from service.domain.errors import UnavailableError

MAX_WRITE_BYTES: Final = 3600.0
"""Seconds."""


@final
class FilesystemBlobs:
    """See `service.application.ports.BlobStore`.

    A blob is written under a temporary name, fsynced, and renamed; then its folder is fsynced. A
    reader sees all of it or nothing, and what was answered for survives a power cut.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"

    def prepare(self, *, shared: bool = False) -> None:
        """Make the folders, and remove what an interrupted write left behind.

        Where other servers may be writing just now, only what no write takes so long for.
        """
        self._temporary.mkdir(parents=True, exist_ok=True)
        newest = time.time() - (MAX_WRITE_BYTES if shared else 0.0)
        for leftover in self._temporary.iterdir():
            if leftover.is_file() and leftover.stat().st_mtime <= newest:
                leftover.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Return where the blob of that name is."""
        return self._root / name[:2] / name[2:]

    async def put(self, data: bytes) -> str:
        """Store durably and return the name."""
        return await asyncio.to_thread(self._put, data)

    async def get(self, name: str) -> bytes:
        """Return the bytes, checked."""
        return await asyncio.to_thread(self._get, name)

    async def sweep(self, keep: Collection[str], *, grace: float) -> int:
        """Remove what nothing refers to and is older than ``grace`` seconds."""
        try:
            return await asyncio.to_thread(self._sweep, keep, grace)
        except OSError as error:
            raise UnavailableError.because_of(error) from error

    async def ping(self) -> None:
        """Raise Unavailable unless bytes can be written."""
        await asyncio.to_thread(self._ping)

    def _put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        target = self.path(name)
        try:
            if target.exists() and target.read_bytes() == data:
                os.utime(target)  # a sweep must not take it before its row is there
            else:
                self._write(target, data)
            # Also where it was there: whoever wrote it may not have come to this yet, or crashed.
            _fsync_folder(target.parent)
            _fsync_folder(self._root)
        except OSError as error:
            raise UnavailableError.because_of(error) from error
        return name

    def _write(self, target: Path, data: bytes) -> None:
        target.parent.mkdir(exist_ok=True)
        temporary = self._temporary / secrets.token_hex(8)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _get(self, name: str) -> bytes:
        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError as error:
            message = f"blob {name} is missing"
            raise BlobCorruptError(message) from error
        except OSError as error:
            raise UnavailableError.because_of(error) from error
        if hashlib.sha256(data).hexdigest() != name:
            message = f"the bytes of blob {name} have changed"
            raise BlobCorruptError(message)
        return data

    def _sweep(self, keep: Collection[str], grace: float) -> int:
        removed = 0
        newest = time.time() - grace
        for folder in self._root.iterdir():
            if len(folder.name) != 2 or not folder.is_dir():
                continue
            for file in folder.iterdir():
                unused = folder.name + file.name not in keep
                if unused and file.is_file() and file.stat().st_mtime <= newest:
                    file.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _ping(self) -> None:
        probe = self._temporary / f"probe-{secrets.token_hex(4)}"
        try:
            try:
                probe.write_bytes(b"ready")
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError.because_of(error) from error


def _fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
