"""What Schemathesis has to be told: what is no find, though it looks like one."""

from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import EnsureResourceAvailability

_told_again: set[str] = set()
"""Paths of what answers to a repeated Idempotency-Key said to have created."""


def after_call(_context: object, _case: object, response: Any) -> None:
    """Remember what was created earlier than its answer sounds."""
    if "idempotency-replayed" in response.headers:
        _told_again.update(response.headers["location"])


def filter_failure(_context: object, failure: Exception, case: Any, _response: object) -> bool:
    """Return whether it is a find.

    The first answer comes again even when what it created was deleted since; and whatever is
    written into a text is text, a number too.
    """
    if isinstance(failure, EnsureResourceAvailability):
        return not any(case.formatted_path.startswith(path) for path in _told_again)
    is_text = str(case.media_type).startswith("text/")
    return not (is_text and isinstance(failure, AcceptedNegativeData) and _wrong_body(failure))


def _wrong_body(failure: Exception) -> bool:
    """Return whether the body's type is all that was wrong."""
    return "in body - violates `type`" in str(getattr(failure, "message", failure))


schemathesis.serializer.alias("application/jsonlines", "text/plain")
schemathesis.hook(after_call)
schemathesis.hook(filter_failure)
