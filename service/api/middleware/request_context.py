"""The outermost ASGI middleware: request ids, origin checks, common headers, unexpected errors."""

import logging
import time
from typing import final

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.dependencies import Services
from service.api.encoding import routed_path
from service.api.errors import context_of, internal_error, service_error
from service.api.request_checks import CsrfRejectedError, check_origin, choose_request_id
from service.application.request_id import request_id

log = logging.getLogger(__name__)


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
            check_origin(_services(scope), scope["method"], headers)
            await self._app(routed, receive, response)
        except CsrfRejectedError as error:
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
        self.started = False

    async def __call__(self, message: Message) -> None:
        """Send one message."""
        if message["type"] == "http.response.start":
            self.started = True
            self._count(message["status"])
            added = MutableHeaders(scope=message)
            added["X-Request-ID"] = self._scope["request_id"]
            added["X-Content-Type-Options"] = "nosniff"
            if _is_closing(self._scope):
                added["Connection"] = "close"
            await self._send(message)
            if self._method == "HEAD":
                await self._send({"type": "http.response.body", "body": b""})
        elif self._method != "HEAD":
            await self._send(message)
        elif message.get("more_body", False):
            raise ClientDisconnect  # a HEAD has no use for the rest of a stream

    def _count(self, status: int) -> None:
        """Count the request under the template of its route, which is empty without a route."""
        services = _services(self._scope)
        if services is not None:
            route = getattr(self._scope.get("route"), "path", "")
            seconds = time.perf_counter() - self._started_at
            services.metrics.request(self._method, route, status, seconds)


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
