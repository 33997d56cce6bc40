"""What everything done for one request knows about it."""

from contextvars import ContextVar
from typing import Final

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""Set where the request comes in, written into every line that is logged for it."""
