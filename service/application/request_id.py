"""The id of the current request, available to all code that handles it."""

from contextvars import ContextVar
from typing import Final

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""Set by the middleware when a request arrives; included in every log record of the request."""
