"""Why a database cannot be used."""

from typing import Final

REMEDY: Final = "bring a backup into an empty folder: neurond restore FILE --data-dir FOLDER"


class DatabaseUnusableError(Exception):
    """The database cannot be opened; the server must not start on it."""
