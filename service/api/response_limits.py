"""Limits for streaming responses."""

from typing import Any, Final

from starlette.types import Scope

STREAM: Final = "neurond.stream"
"""ASGI extension that limits the bytes buffered for a client that does not read."""


def limit_send_buffer(scope: Scope) -> None:
    """Limit the send buffer of a streaming response, if the server supports the extension."""
    limit: Any = scope.get("extensions", {}).get(STREAM)
    if limit is not None:
        limit()
