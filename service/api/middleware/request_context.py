"""The outermost ASGI middleware: request ids, origin checks, common headers, unexpected errors."""

import logging
import time
from typing import Final, final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.dependencies import Services
from service.api.encoding import routed_path
from service.api.errors import context_of, internal_error, problem, service_error
from service.api.request_checks import (
    SECURITY_HEADERS,
    CsrfRejectedError,
    allows_origin,
    check_connections,
    check_origin,
    choose_request_id,
)
from service.application.request_id import request_id
from service.domain.errors import UnavailableError

log = logging.getLogger(__name__)

RANGE_ERRORS: Final = {400: "bad_request", 416: "range_not_satisfiable"}
"""Codes for the statuses with which a file response refuses a Range header."""


@final
class RequestContext:
    """Handles what concerns every request that the inference pipeline does not answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))
        scope["request_id"] = choose_request_id(headers)
        request_id.set(scope["request_id"])
        # A copy: the server reads its own scope, and must continue to see a HEAD there.
        routed = _routed_scope(scope)
        response = _Response(routed, scope["method"], send)
        try:
            check_connections(scope)
            check_origin(_services(scope), scope["method"], headers, scope["path"])
            await self._app(routed, receive, response)
        except (CsrfRejectedError, UnavailableError) as error:
            await service_error(context_of(Request(scope)), error)(scope, receive, response)
        except ClientDisconnect:
            log.debug("%s %s: the client disconnected", scope["method"], scope["path"])
        except Exception:  # the outermost frame of a request
            log.exception("%s %s failed", scope["method"], scope["path"])
            if response.started:
                raise
            await internal_error(context_of(Request(scope)))(scope, receive, response)


class _Response:
    """Sends the application's response with the headers that every response has."""

    def __init__(self, scope: Scope, method: str, send: Send) -> None:
        self._scope, self._send = scope, send
        self._method, self._started_at = method, time.perf_counter()
        self.started = self._replaced = False

    async def __call__(self, message: Message) -> None:
        """Send one message."""
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            await self._start(message)
        elif self._method != "HEAD":
            await self._send(message)
        elif message.get("more_body", False):
            raise ClientDisconnect  # a HEAD has no use for the rest of a stream

    async def _start(self, message: Message) -> None:
        """Send status and headers."""
        if self._is_range_error(message):
            self._replaced = True
            await self._send_range_error(message)
            return
        self.started = True
        self._count(message["status"])
        added = MutableHeaders(scope=message)
        added["X-Request-ID"] = self._scope["request_id"]
        for name, value in SECURITY_HEADERS.items():
            added.setdefault(name, value)
        if allows_origin(_services(self._scope), dict(self._scope["headers"])):
            added["Cross-Origin-Resource-Policy"] = "cross-origin"
        added.setdefault("Cache-Control", "private, no-cache" if "etag" in added else "no-store")
        if _is_closing(self._scope):
            added["Connection"] = "close"
        await self._send(message)
        if self._method == "HEAD":
            await self._send({"type": "http.response.body", "body": b""})

    def _is_range_error(self, message: Message) -> bool:
        """Return True for the plain text with which a file response refuses a range."""
        headers = Headers(raw=message["headers"])
        refused = message["status"] in RANGE_ERRORS and "range" in Headers(scope=self._scope)
        return refused and headers.get("content-type", "").startswith("text/plain")

    async def _send_range_error(self, message: Message) -> None:
        """Send a problem in place of a plain text."""
        code = RANGE_ERRORS[message["status"]]
        detail = "the Range header cannot be satisfied by this file"
        response = problem(context_of(Request(self._scope)), code, detail)
        own = Headers(raw=message["headers"])
        if "content-range" in own:
            response.headers["Content-Range"] = own["content-range"]
        replacement = _Response(self._scope, self._method, self._send)
        await response(self._scope, _no_request, replacement)

    def _count(self, status: int) -> None:
        """Count the request under the template of its route, which is empty without a route."""
        services = _services(self._scope)
        if services is not None:
            route = getattr(self._scope.get("route"), "path", "")
            seconds = time.perf_counter() - self._started_at
            services.metrics.request(self._method, route, status, seconds)


async def _no_request() -> Message:
    """Stand in for the channel of a request whose body is not read."""
    raise NotImplementedError


def _routed_scope(scope: Scope) -> Scope:
    """Return a scope in which HEAD is GET, and an escaped slash stays within its segment."""
    routed = {**scope, "method": "GET"} if scope["method"] == "HEAD" else dict(scope)
    routed["path"] = routed_path(scope.get("raw_path") or b"", scope["path"])
    return routed


def _services(scope: Scope) -> Services | None:
    """Return the application's services; None while it starts."""
    return getattr(scope["app"].state, "services", None) if "app" in scope else None


def _is_closing(scope: Scope) -> bool:
    """Return True if the server is stopping, and connections should not be reused."""
    services = _services(scope)
    return services is not None and services.closing.is_set()
