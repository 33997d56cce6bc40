"""Errors of multi-model endpoints: the platform reads the status, people read the detail."""

import json

from fastapi import Response


def error(status: int, _: str, detail: str) -> Response:
    """Return the response for an error: 404 unknown, 409 already loaded, 507 out of memory."""
    status = 400 if status == 422 else status
    return Response(json.dumps({"error": detail}), status, media_type="application/json")
