"""Limits for responses that stream without end."""

from typing import Any, Final

from starlette.types import Scope

STREAM: Final = "neurond.stream"
"""ASGI extension of the HTTP protocol: limits what is buffered for a client that does not read."""


def limit_send_buffer(scope: Scope) -> None:
    """Declare the response to a request an endless stream, if the server offers the extension."""
    limit: Any = scope.get("extensions", {}).get(STREAM)
    if limit is not None:
        limit()
