"""Encoding of JSON, paths and times."""

import json
import re
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, unquote


def json_bytes(value: Any) -> bytes:
    """Return compact JSON; raise ValueError for NaN and infinities."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


ESCAPED_SLASH: Final = "\x1f"
"""Replaces %2F in a path while it is routed; names cannot contain this character."""

_PERCENT_SLASH: Final = re.compile(b"%2f", re.IGNORECASE)


def routed_path(raw: bytes, path: str) -> str:
    """Return the path for routing, in which `ESCAPED_SLASH` replaces each %2F.

    Parameters
    ----------
    raw
        The path as the client sent it, possibly with a query.
    path
        The decoded path, which is returned if ``raw`` contains no %2F.
    """
    if not _PERCENT_SLASH.search(raw):
        return path
    marked = _PERCENT_SLASH.sub(ESCAPED_SLASH.encode(), raw.partition(b"?")[0])
    return unquote(marked.decode("ascii", "replace"))


def unescaped(reference: str) -> str:
    """Return a reference with each `ESCAPED_SLASH` replaced by a slash."""
    return reference.replace(ESCAPED_SLASH, "/")


def uri_path(path: str) -> str:
    """Return a routed path, percent-encoded for a URI."""
    return quote(path).replace(quote(ESCAPED_SLASH), "%2F")


def rfc3339(time: datetime | None) -> str | None:
    """Return a UTC time in the format of RFC 3339, with microseconds."""
    if time is None:
        return None
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
