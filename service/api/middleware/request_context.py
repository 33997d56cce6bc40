"""A request id for everyone, refusals for other sites' pages, and headers that do no harm."""

import ipaddress
import logging
import re
import secrets
import time
from typing import Final, final
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.dependencies import Services
from service.api.encoding import ESCAPED_SLASH
from service.api.errors import internal_error, problem
from service.application.request_id import request_id

log = logging.getLogger(__name__)

_ACCEPTABLE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_ESCAPED_SLASH: Final = re.compile(b"%2f", re.IGNORECASE)
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@final
class RequestContext:
    """Pure ASGI, around everything else: what escapes the application is answered here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        scope["request_id"] = given if _ACCEPTABLE_ID.fullmatch(given) else secrets.token_hex(16)
        request_id.set(scope["request_id"])
        # A copy: the server looks at its own scope, and must go on seeing a HEAD there.
        adapted = _adapted(scope)
        answer = _Answer(adapted, scope["method"], send)
        refusal = _rejection(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, answer)
            return
        try:
            await self._app(adapted, receive, answer)
        except ClientDisconnect:
            log.debug("%s %s: the client is gone", scope["method"], scope["path"])
        except Exception:  # the top frame of a connection
            log.exception("%s %s failed", scope["method"], scope["path"])
            if answer.started:
                raise
            await internal_error(Request(scope))(scope, receive, answer)


class _Answer:
    """Sends on what the application answers, with the headers that every answer has."""

    def __init__(self, scope: Scope, method: str, send: Send) -> None:
        self._scope, self._send = scope, send
        self._method, self._begun = method, time.perf_counter()
        self.started = False

    async def __call__(self, message: Message) -> None:
        """Send one message."""
        if message["type"] == "http.response.start":
            self.started = True
            self._count(message["status"])
            added = MutableHeaders(scope=message)
            added["X-Request-ID"] = self._scope["request_id"]
            added["X-Content-Type-Options"] = "nosniff"
            if _closing(self._scope):
                added["Connection"] = "close"
            await self._send(message)
            if self._method == "HEAD":
                await self._send({"type": "http.response.body", "body": b""})
        elif self._method != "HEAD":
            await self._send(message)
        elif message.get("more_body", False):
            raise ClientDisconnect  # nobody waits for the rest of a stream

    def _count(self, status: int) -> None:
        """Count the request under its route's template; what no route took has none."""
        services = _services(self._scope)
        if services is not None:
            route = getattr(self._scope.get("route"), "path", "")
            seconds = time.perf_counter() - self._begun
            services.metrics.request(self._method, route, status, seconds)


def _adapted(scope: Scope) -> Scope:
    """Return a scope in which HEAD is GET, and an escaped slash stays within its name."""
    adapted = {**scope, "method": "GET"} if scope["method"] == "HEAD" else dict(scope)
    raw = scope.get("raw_path") or b""
    if _ESCAPED_SLASH.search(raw):
        kept = _ESCAPED_SLASH.sub(ESCAPED_SLASH.encode(), raw.partition(b"?")[0])
        adapted["path"] = unquote(kept.decode("ascii", "replace"))
    return adapted


def _services(scope: Scope) -> Services | None:
    """Return what the application runs on, once it runs."""
    return getattr(scope["app"].state, "services", None) if "app" in scope else None


def _closing(scope: Scope) -> bool:
    """Tell whether the server is stopping, and connections should not be kept."""
    services = _services(scope)
    return services is not None and services.closing.is_set()


def _rejection(scope: Scope, headers: Headers) -> ASGIApp | None:
    """Return the answer to what must not reach the application."""
    if _is_dns_rebinding(scope, headers):
        detail = "without a key, a browser is answered at localhost or an address, not at a domain"
        return problem(Request(scope), "csrf_rejected", detail)
    if scope["method"] not in _SAFE_METHODS and _from_another_site(headers):
        detail = "a page of another site may not change anything here"
        return problem(Request(scope), "csrf_rejected", detail)
    return None


def _is_dns_rebinding(scope: Scope, headers: Headers) -> bool:
    """Tell whether a browser calls us by a name that another site may have pointed here."""
    services = _services(scope)
    if services is None or not services.authenticator.anonymous or services.authenticator.anywhere:
        return False
    browser = "origin" in headers or "sec-fetch-site" in headers
    browser = browser or headers.get("user-agent", "").startswith("Mozilla/")
    return browser and _is_domain(headers.get("host", ""))


def _is_domain(host: str) -> bool:
    """Tell whether a Host is a name that somebody can own: one with a dot that is no address."""
    name = host.rpartition(":")[0] or host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." in name
    return False


def _from_another_site(headers: Headers) -> bool:
    """Tell whether a browser says that the request comes from another site's page."""
    if headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
