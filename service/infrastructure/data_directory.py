"""The data folder: made, checked, and held by one server at a time."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO, Any, Final, final

DATABASE: Final = "neurond.sqlite3"


class DataDirectoryError(Exception):
    """The folder cannot be the server's; the message is for whoever started it."""


class DataDirectoryLockedError(DataDirectoryError):
    """Another server holds the folder."""


@final
class DataDirectory:
    """A folder and the lock on it.

    The lock is the kernel's, on an open file: it ends with the process, however that ends.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock: IO[Any] | None = None

    @property
    def database(self) -> Path:
        """Return where the database is."""
        return self.root / DATABASE

    @property
    def blobs(self) -> Path:
        """Return where the blobs are."""
        return self.root / "blobs"

    @property
    def uploads(self) -> Path:
        """Return where uploads stay while they are read."""
        return self.root / "uploads"

    def has_orphaned_blobs(self) -> bool:
        """Tell whether there are blobs and no database that knows them."""
        empty = not self.database.exists() or self.database.stat().st_size == 0
        return empty and any(file.is_file() for file in self.blobs.glob("??/*"))

    def acquire(self, *, shared: bool = False) -> None:
        """Make the folder ours, or one that servers of one database share.

        Raises
        ------
        FolderUnusable
            When it cannot be written, or another server holds it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.uploads.mkdir(exist_ok=True)
            self._lock = (self.root / "lock").open("a+")
        except OSError as error:
            message = f"the data folder {self.root} cannot be written: {error.strerror}"
            raise DataDirectoryError(message) from error
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            self.release()
            message = f"the data folder {self.root} is held by another server (process {holder})"
            raise DataDirectoryLockedError(message) from error
        with contextlib.suppress(OSError):  # a full disk: the number is a courtesy
            self._lock.truncate(0)
            self._lock.write(str(os.getpid()))
            self._lock.flush()
        for leftover in () if shared else self.uploads.iterdir():
            if leftover.is_file():
                leftover.unlink(missing_ok=True)

    def write_address(self, url: str) -> None:
        """Note where the server listens, for the commands that ask it."""
        with contextlib.suppress(OSError):
            (self.root / "address").write_text(url)

    def release(self) -> None:
        """Let another server have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
