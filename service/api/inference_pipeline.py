"""Inference calls answered before the framework, when nothing about them is unusual.

The ordinary road through tasks, middleware, router, dependencies and models costs many times the
forward pass of a small network. What is plain is answered here: a POST to a call of the table, for
a version that is in memory, with a body that decodes, small enough for the loop. Rows that arrive
in the same turn of the loop go through the network together. All else, and every error, takes the
ordinary road, so that errors have one source.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, final

import msgspec
from starlette.datastructures import State

from service.api.dependencies import ACTING_AS, Services
from service.api.hot import Array, Asked, HotAnswer, HotCall, HotRequest
from service.api.protocols.base import HotCalls
from service.application.access.api_keys import allowed
from service.application.access.rate_limits import CLASSES
from service.application.inference.inference import fits_inline
from service.application.inference.loaded_model import LoadedModel
from service.domain.errors import ServiceError
from service.domain.keys import Caller, Scope

log = logging.getLogger(__name__)

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

FORWARDED: Final = b"x-forwarded-for"
"""Says where a request comes from, which matters to callers without a key alone."""

ANONYMOUS_HEADERS: Final = frozenset({FORWARDED, b"user-agent"})
"""Looked at where there are no keys: who is far away, and which browser was led here."""

UNUSUAL: Final = frozenset(
    {
        b"content-encoding",
        b"expect",
        b"origin",
        b"sec-fetch-site",
        b"traceparent",
        b"transfer-encoding",
        b"upgrade",
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

MIN_BATCHED_REQUESTS: Final = 4
"""So many requests are worth a product in common: two or three are sooner done one by one."""

REQUEST_ERRORS: Final = (
    ServiceError,
    msgspec.MsgspecError,
    ValueError,
    OverflowError,
    UnicodeError,
)


class Target(NamedTuple):
    """What the head of a request says."""

    call: HotCall
    who: Caller
    model: str
    version: str | None
    route: str
    headers: Mapping[bytes, bytes]
    begun: float


class Connection(Protocol):
    """Whoever waits for an answer."""

    def answered(self, answer: HotAnswer) -> None:
        """Send the answer."""

    def declined(self) -> None:
        """Take the ordinary road."""

    def release_after_server_loss(self) -> None:
        """Close: there will be no answer."""


class _Waiting(NamedTuple):
    target: Target
    served: LoadedModel
    asked: Asked
    connection: Connection


@final
class HotPath:
    """The table of calls, and the requests of this turn of the loop.

    Parameters
    ----------
    state
        The application's; holds its services once it runs.
    """

    def __init__(self, state: State, calls: HotCalls) -> None:
        self._state, self._calls = state, calls
        self._waiting: list[_Waiting] = []

    def target(
        self, url: bytes, headers: Sequence[tuple[bytes, bytes]], address: str
    ) -> Target | None:
        """Return what a POST with this head asks for; None where that is not for here.

        Its key is looked at before its body is taken.
        """
        services: Services | None = getattr(self._state, "services", None)
        segments = url.decode("latin-1").split("/")
        count = len(segments)
        version: str | None
        if count == 7 and segments[4] == "versions" and segments[5]:
            version = segments[5]
        elif count == 5:
            version = None
        else:
            return None
        call = self._calls.get((segments[1], segments[2], segments[-1]))
        if call is None or services is None or b"%" in url or b"?" in url:
            return None
        plain = _plain(headers)
        if plain is None or not _is_for_here(services, plain):
            return None
        try:
            authorization = plain.get(b"authorization", b"").decode("latin-1")
            who = allowed(
                services.authenticator.authenticate(authorization, address), Scope.PREDICT
            )
        except ServiceError:
            return None
        route = TEMPLATES[segments[1]][version is not None] + segments[-1]
        return Target(call, who, segments[3], version, route, plain, time.perf_counter())

    def ask(self, target: Target, body: bytes, connection: Connection) -> bool:
        """Let a request be answered at the end of this turn; False where it should not be here."""
        services: Services = self._state.services
        try:
            served = services.inference.get_loaded(target.who.tenant, target.model, target.version)
            if served is None or services.closing.is_set():
                return False
            request = HotRequest(target.model, target.headers, body)
            asked = target.call(services, served, request)
            if asked is None or not fits_inline(served, asked.rows):
                return False
            services.rate_limiter.acquire(target.who, CLASSES[Scope.PREDICT])
        except REQUEST_ERRORS:
            return False
        except Exception:  # the ordinary road will meet it too, and answer for it
            log.exception("the hot path stumbled over a request")
            return False
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(_Waiting(target, served, asked, connection))
        return True

    def flush(self) -> None:
        """Answer all who wait, those of one version together."""
        waiting, self._waiting = self._waiting, []
        groups: dict[int, list[_Waiting]] = {}
        for one in waiting:
            groups.setdefault(id(one.served), []).append(one)
        for group in groups.values():
            if len(group) < MIN_BATCHED_REQUESTS or not self._answered(group):
                for one in group:
                    if not self._answered([one]):
                        self._state.services.rate_limiter.refund(
                            one.target.who, CLASSES[Scope.PREDICT]
                        )
                        _told(one, one.connection.declined)

    def _answered(self, group: list[_Waiting]) -> bool:
        """Answer requests of one version; False, and nothing done, where any cannot be."""
        services: Services = self._state.services
        try:
            outputs = services.inference.predict_batch(
                group[0].served, [one.asked.rows for one in group]
            )
            answers = [
                one.asked.answer(part)
                for one, part in zip(group, _parts(group, outputs), strict=True)
            ]
        except REQUEST_ERRORS:
            return False
        except Exception:  # nobody may hang for what a stranger sent
            log.exception("the hot path stumbled over %d requests", len(group))
            return False
        services.metrics.rows(len(outputs))
        now = time.perf_counter()
        for one, answer in zip(group, answers, strict=True):
            _told(one, partial(one.connection.answered, answer))
            services.metrics.request("POST", one.target.route, 200, now - one.target.begun)
        return True


def _told(one: _Waiting, call: Callable[[], None]) -> None:
    """Tell one connection; what goes wrong with it is no other's trouble."""
    try:
        call()
    except Exception:
        log.exception("a connection cannot be answered")
        one.connection.release_after_server_loss()


def _parts(group: list[_Waiting], outputs: Array) -> list[Array]:
    """Return the outputs of each request."""
    services, begin = [], 0
    for one in group:
        end = begin + len(one.asked.rows)
        services.append(outputs[begin:end])
        begin = end
    return services


def _is_for_here(services: Services, plain: Mapping[bytes, bytes]) -> bool:
    """Tell whether who asks is known, and how much is bounded."""
    if services.closing.is_set():
        return False
    if services.authenticator.anonymous and not plain.keys().isdisjoint(ANONYMOUS_HEADERS):
        return False
    length = plain.get(b"content-length", b"")
    return length.isdigit() and len(length) < 10 and int(length) <= services.limits.inline_bytes


def _plain(headers: Sequence[tuple[bytes, bytes]]) -> Mapping[bytes, bytes] | None:
    """Return the headers that matter; None where any is unusual. The connection saw to the Host."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in PLAIN:
            if name in found:
                return None
            found[name] = value
        elif name in UNUSUAL:
            return None
        elif name in ANONYMOUS_HEADERS and (name == FORWARDED or value.startswith(b"Mozilla/")):
            found[name] = value
    return found
