"""Errors of multi-model hosting: the platform reads the status, people the sentence."""

import json

from fastapi import Response


def error(status: int, _: str, detail: str) -> Response:
    """Return the answer for an error: 404 unknown, 409 loaded already, 507 no room."""
    status = 400 if status == 422 else status
    return Response(json.dumps({"error": detail}), status, media_type="application/json")
