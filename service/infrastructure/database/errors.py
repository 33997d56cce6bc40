"""Errors of a database at start."""

from typing import Final

REMEDY: Final = (
    "restore a backup into an empty directory: neurond restore FILE --data-dir DIRECTORY"
)


class DatabaseUnusableError(Exception):
    """The database cannot be used, so the server must not start; the message gives the reason."""
