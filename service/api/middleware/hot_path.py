"""Inference calls answered before routing, when nothing about them is unusual.

The ordinary road through middleware, router, dependencies and models costs several times the
forward pass of a small network. What is plain is answered here: a POST to a call of the table, for
a version that is in memory, with a body that decodes, small enough for the loop. All else, and
every error, takes the ordinary road with its body replayed, so that errors have one source.
"""

import itertools
import secrets
import time
from collections.abc import Mapping
from typing import Final, final

import msgspec
from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.dependencies import ACTING_AS, Services, address_of
from service.api.dialect import HotCalls
from service.api.hot import HotAnswer, HotCall, HotRequest
from service.application.access import allowed
from service.domain.errors import ServiceError
from service.domain.keys import Scope as Permission

PLAIN: Final = frozenset(
    {
        b"accept-encoding",
        b"authorization",
        b"content-length",
        b"content-type",
        b"inference-header-content-length",
    }
)
"""Headers that calls look at."""

UNUSUAL: Final = frozenset(
    {
        b"content-encoding",
        b"expect",
        b"origin",
        b"sec-fetch-site",
        b"traceparent",
        b"transfer-encoding",
        b"x-request-id",
        ACTING_AS.encode(),
    }
)
"""Headers that are looked at on the ordinary road."""


TEMPLATES: Final = {
    "v1": ("/v1/networks/{network}/", "/v1/networks/{network}/versions/{ref}/"),
    "v2": ("/v2/models/{model}/", "/v2/models/{model}/versions/{version}/"),
}
"""Where calls of the table stand without and with a version, as the routes are declared."""

PROCESS: Final = secrets.token_hex(12).encode()
"""Tells apart the request ids of processes; a number follows, far cheaper than chance."""

_numbers = itertools.count()


@final
class HotPath:
    """Pure ASGI, outermost.

    Parameters
    ----------
    state
        The application's; holds its services once it runs.
    """

    def __init__(self, app: ASGIApp, state: State, calls: HotCalls) -> None:
        self._app, self._state, self._calls = app, state, calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        segments = scope["path"].split("/")
        count = len(segments)
        call = None
        if count == 5 or (count == 7 and segments[4] == "versions"):
            call = self._calls.get((segments[1], segments[2], segments[-1]))
        services: Services | None = getattr(self._state, "services", None)
        headers = None if call is None else _plain(scope)
        if call is None or headers is None or services is None or services.closing.is_set():
            await self._app(scope, receive, send)
            return
        message = await receive()
        version = segments[5] if count == 7 else None
        answer = None
        if message["type"] == "http.request" and not message.get("more_body", False):
            request = HotRequest(segments[3], version, headers, message.get("body", b""))
            answer = _answer(services, call, request, address_of(scope))
        if answer is None:
            await self._app(scope, _replayed(message, receive), send)
            return
        body, own = answer
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    *own,
                    (b"content-length", b"%d" % len(body)),
                    (b"x-request-id", b"%s%08x" % (PROCESS, next(_numbers))),
                    (b"x-content-type-options", b"nosniff"),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})
        route = TEMPLATES[segments[1]][version is not None] + segments[-1]
        services.metrics.request("POST", route, 200, time.perf_counter() - begun)


def _plain(scope: Scope) -> Mapping[bytes, bytes] | None:
    """Return the headers that matter; None where any is unusual."""
    found: dict[bytes, bytes] = {}
    hosts = 0
    for name, value in scope["headers"]:
        if name in PLAIN:
            if name in found:
                return None
            found[name] = value
        elif name == b"host":
            hosts += 1
        elif name in UNUSUAL:
            return None
    return found if hosts <= 1 and b"%" not in (scope.get("raw_path") or b"") else None


def _answer(
    services: Services, call: HotCall, request: HotRequest, address: str
) -> HotAnswer | None:
    """Return the answer, or None where the ordinary road should give it."""
    if len(request.body) > services.limits.inline_bytes:
        return None
    try:
        authorization = request.headers.get(b"authorization", b"").decode("latin-1")
        caller = allowed(services.access.caller(authorization, address), Permission.PREDICT)
        served = services.inference.ready(caller.tenant, request.model, request.version)
        if served is None:
            return None
        services.rates.take(caller, Permission.PREDICT)
        return call(services, served, request)
    except (ServiceError, msgspec.MsgspecError, ValueError, OverflowError, UnicodeError):
        return None


def _replayed(first: Message, receive: Receive) -> Receive:
    """Return a ``receive`` that gives ``first`` once more."""
    waiting = [first]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
