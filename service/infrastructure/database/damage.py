"""Why a database cannot be used."""


class DatabaseUnusable(Exception):
    """The database cannot be opened; the server must not start on it."""
