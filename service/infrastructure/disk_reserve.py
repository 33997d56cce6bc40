"""A file that is deleted on a full disk, so that a request that frees space can be stored."""

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Final, final

RESERVE_BYTES: Final = 8 << 20
"""Enough for the log of a transaction that deletes much."""

log = logging.getLogger(__name__)


@final
class DiskReserve:
    """The file.

    Parameters
    ----------
    path
        It is created as soon as the disk has room for several such files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def refill(self) -> None:
        """Create the file if it does not exist and there is enough space."""
        if self._path.exists():
            return
        partial = self._path.with_suffix(".partial")
        try:
            if shutil.disk_usage(self._path.parent).free < 4 * RESERVE_BYTES:
                return
            with partial.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
            partial.replace(self._path)
        except OSError as error:
            log.warning("cannot reserve space on the disk: %s", error.strerror)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def release(self) -> bool:
        """Delete the file; return False if it does not exist."""
        try:
            self._path.unlink()
        except OSError:
            return False
        log.warning("the disk is full: released the reserve of %d bytes", RESERVE_BYTES)
        return True
