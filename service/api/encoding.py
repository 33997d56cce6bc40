"""Paths, times and responses as they are sent."""

import json
import re
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, unquote


def json_bytes(value: Any) -> bytes:
    """Return compact JSON, never with NaN in it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


ESCAPED_SLASH: Final = "\x1f"
"""Stands for %2F in a path while it is routed; names cannot contain it."""

_PERCENT_SLASH: Final = re.compile(b"%2f", re.IGNORECASE)


def routed_path(raw: bytes, path: str) -> str:
    """Return a decoded path in which an escaped slash stays within its segment.

    Parameters
    ----------
    raw
        The path as it was sent, possibly with a query.
    path
        The decoded path, returned if there is no escaped slash.
    """
    if not _PERCENT_SLASH.search(raw):
        return path
    marked = _PERCENT_SLASH.sub(ESCAPED_SLASH.encode(), raw.partition(b"?")[0])
    return unquote(marked.decode("ascii", "replace"))


def unescaped(reference: str) -> str:
    """Return a reference with its slashes."""
    return reference.replace(ESCAPED_SLASH, "/")


def uri_path(path: str) -> str:
    """Return a path that was routed as a URI has it."""
    return quote(path).replace(quote(ESCAPED_SLASH), "%2F")


def rfc3339(time: datetime | None) -> str | None:
    """Return a UTC time as the contract writes it."""
    if time is None:
        return None
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
