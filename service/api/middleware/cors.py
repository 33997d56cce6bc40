"""Cross-origin requests (CORS) of the origins that the settings name."""

from collections.abc import Collection
from typing import Final, final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from service.api.request_checks import SECURITY_HEADERS, choose_request_id

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS: Final = (
    *("Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key", "If-Match"),
    *("If-None-Match", "Last-Event-ID", "Prefer", "X-Request-ID", "X-Neurond-Tenant"),
)
RESPONSE_HEADERS: Final = (
    *("ETag", "Location", "Link", "Retry-After", "X-Request-ID", "Idempotency-Replayed"),
    *("Preference-Applied", "Content-Disposition", "RateLimit", "RateLimit-Policy"),
)
"""Response headers that pages of the allowed origins can read."""


@final
class CrossOrigin(CORSMiddleware):
    """Starlette's middleware, whose own responses have the headers of every response."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=[*origins],
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=RESPONSE_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to the question whether a request is allowed."""
        response = super().preflight_response(request_headers)
        response.headers.update(SECURITY_HEADERS)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Request-ID"] = choose_request_id(dict(request_headers.raw))
        return response
