"""Errors as the protocol has them: ``{"error": "<text>"}``."""

import json
from typing import Final

from fastapi import Response

STATUSES: Final = {422: 400, 409: 400, 406: 400, 507: 503}
"""What our statuses are in the protocol's smaller choice; the others are the same."""


def error(status: int, _: str, detail: str) -> Response:
    """Return the answer for an error."""
    body = json.dumps({"error": detail})
    return Response(body, STATUSES.get(status, status), media_type="application/json")
