"""Blobs as files in a directory, named by the SHA-256 digest of their bytes."""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final, final

from service.application.ports.blobs import BlobCorruptError
from service.domain.errors import UnavailableError

MAX_WRITE_SECONDS: Final = 3600.0
"""A temporary file that is older than this does not belong to a running write."""


@final
class FilesystemBlobs:
    """Implements `service.application.ports.blobs.BlobStore` on a file system.

    A blob is written under a temporary name, fsynced and renamed; then its directory is fsynced.
    Readers see a complete blob or none, and acknowledged writes survive a power failure.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"

    def prepare(self, *, shared: bool = False) -> None:
        """Create the directories, and remove the temporary files of interrupted writes.

        If the directory is shared, other servers may be writing; then only temporary files older
        than `MAX_WRITE_SECONDS` are removed.
        """
        self._temporary.mkdir(parents=True, exist_ok=True)
        newest = time.time() - (MAX_WRITE_SECONDS if shared else 0.0)
        for leftover in self._temporary.iterdir():
            if leftover.is_file() and leftover.stat().st_mtime <= newest:
                leftover.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Return the path of the blob with that name."""
        return self._root / name[:2] / name[2:]

    async def put(self, data: bytes) -> str:
        """Store the bytes durably and return the name of the blob."""
        return await asyncio.to_thread(self._put, data)

    async def get(self, name: str) -> bytes:
        """Return the bytes of a blob, verified against its name."""
        return await asyncio.to_thread(self._get, name)

    async def sweep(self, keep: Collection[str], *, grace: float) -> int:
        """Remove unreferenced blobs older than ``grace`` seconds, and return their number."""
        try:
            return await asyncio.to_thread(self._sweep, keep, grace)
        except OSError as error:
            raise UnavailableError.because_of(error) from error

    async def ping(self) -> None:
        """Raise UnavailableError unless a file can be written."""
        await asyncio.to_thread(self._ping)

    def _put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        target = self.path(name)
        try:
            if target.exists() and target.read_bytes() == data:
                os.utime(target)  # protects it from a sweep until its row is committed
            else:
                self._write(target, data)
            # Also for an existing file: its writer may not have synced yet, or may have crashed.
            _fsync_directory(target.parent)
            _fsync_directory(self._root)
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
            message = f"blob {name} is damaged: its bytes do not match its digest"
            raise BlobCorruptError(message)
        return data

    def _sweep(self, keep: Collection[str], grace: float) -> int:
        removed = 0
        newest = time.time() - grace
        for directory in self._root.iterdir():
            if len(directory.name) != 2 or not directory.is_dir():
                continue
            for file in directory.iterdir():
                unused = directory.name + file.name not in keep
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


def _fsync_directory(directory: Path) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
