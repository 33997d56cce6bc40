"""A request id for everyone, refusals for other sites' pages, and headers that do no harm."""

import re
import secrets
from typing import Final, final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import problem

_ACCEPTABLE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@final
class RequestContext:
    """Pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _ACCEPTABLE_ID.fullmatch(given) else secrets.token_hex(16)
        scope["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                added["X-Request-ID"] = request_id
                added["X-Content-Type-Options"] = "nosniff"
            await send(message)

        if scope["method"] not in _SAFE_METHODS and _from_another_site(headers):
            detail = "a page of another site may not change anything here"
            refusal = problem(Request(scope), "cross_site", detail)
            await refusal(scope, receive, send_with_id)
            return
        await self._app(scope, receive, send_with_id)


def _from_another_site(headers: Headers) -> bool:
    """Tell whether a browser says that the request comes from another site's page."""
    if headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
