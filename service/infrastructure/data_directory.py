"""The data directory and its lock: one server at a time uses it, unless it is shared."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO, Any, Final, final

DATABASE: Final = "neurond.sqlite3"


class DataDirectoryError(Exception):
    """The data directory cannot be used; the message is for the operator."""


class DataDirectoryLockedError(DataDirectoryError):
    """Another server has locked the data directory."""


@final
class DataDirectory:
    """A data directory and the lock on it.

    The lock is an flock on an open file, which the kernel releases whenever the process ends.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock: IO[Any] | None = None

    @property
    def database(self) -> Path:
        """Return the path of the SQLite database."""
        return self.root / DATABASE

    @property
    def blobs(self) -> Path:
        """Return the directory of the blobs."""
        return self.root / "blobs"

    @property
    def uploads(self) -> Path:
        """Return the directory of uploads that are being read."""
        return self.root / "uploads"

    @property
    def reserve(self) -> Path:
        """Return the path of the file that is deleted on a full disk."""
        return self.root / "reserve"

    def has_orphaned_blobs(self) -> bool:
        """Return True if there are blobs, but the database is missing or empty."""
        empty = not self.database.exists() or self.database.stat().st_size == 0
        return empty and any(file.is_file() for file in self.blobs.glob("??/*"))

    def acquire(self, *, shared: bool = False) -> None:
        """Create and lock the directory, and close it and new files to other users.

        Parameters
        ----------
        shared
            Lock it together with other servers on the same database.

        Raises
        ------
        DataDirectoryError
            If the directory cannot be written to, or another server has locked it.
        """
        os.umask(0o077)  # everything in the directory is for this user only
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(PermissionError):  # a volume that belongs to another user
                self.root.chmod(0o700)
            self.uploads.mkdir(exist_ok=True)
            self._lock = (self.root / "lock").open("a+")
        except OSError as error:
            message = f"the data directory {self.root} cannot be written to: {error.strerror}"
            raise DataDirectoryError(message) from error
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            self.release()
            message = f"the data directory {self.root} is in use by another server (pid {holder})"
            raise DataDirectoryLockedError(message) from error
        with contextlib.suppress(OSError):  # the pid is only informative; the disk may be full
            self._lock.truncate(0)
            self._lock.write(str(os.getpid()))
            self._lock.flush()
        for leftover in () if shared else self.uploads.iterdir():
            if leftover.is_file():
                leftover.unlink(missing_ok=True)

    def write_address(self, url: str) -> None:
        """Store the URL of the server, for commands that call it."""
        with contextlib.suppress(OSError):
            (self.root / "address").write_text(url)

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
