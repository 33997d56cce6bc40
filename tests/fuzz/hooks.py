"""Hooks of Schemathesis that filter false positives."""

from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import EnsureResourceAvailability

_replayed_paths: set[str] = set()
"""Locations of resources in replayed responses."""


def after_call(_context: object, _case: object, response: Any) -> None:
    """Record the location of a replayed response, whose resource may be deleted by now."""
    if "idempotency-replayed" in response.headers:
        _replayed_paths.update(response.headers["location"])


def filter_failure(_context: object, failure: Exception, case: Any, _response: object) -> bool:
    """Return True if the failure is a real one.

    Two kinds are not. A replayed response may name a resource that was deleted since. A text body
    accepts values of any type, because numbers in a text are text.
    """
    if isinstance(failure, EnsureResourceAvailability):
        return not any(case.formatted_path.startswith(path) for path in _replayed_paths)
    is_text = str(case.media_type).startswith("text/")
    return not (
        is_text and isinstance(failure, AcceptedNegativeData) and _is_wrong_body_type(failure)
    )


def _is_wrong_body_type(failure: Exception) -> bool:
    """Return True if the only error is the type of the body."""
    return "in body - violates `type`" in str(getattr(failure, "message", failure))


schemathesis.serializer.alias("application/jsonlines", "text/plain")
schemathesis.hook(after_call)
schemathesis.hook(filter_failure)
