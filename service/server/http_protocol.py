"""HTTP as uvicorn speaks it, with an end to patience.

uvicorn over httptools takes headers of any length, and waits for ever for the rest of a request.
Here a head has bounds and a deadline; a body has a deadline that moves with what has arrived, so
that a slow client is refused and a long upload is not. A request that comes whole, as nearly all
do, meets no timer. What could be read in two ways, by us and by a proxy, is refused.
"""

import asyncio
import contextlib
import json
import re
import secrets
import socket
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.response_limits import STREAM

HEAD_BYTES: Final = 16 << 10
HEADERS: Final = 100
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 60.0
BODY_BYTES_PER_SECOND: Final = 64 << 10
"""A body may take `BODY_SECONDS`, and a second more for each so many bytes of it."""

SEND_SECONDS: Final = 60.0
"""A client that takes nothing of a stream for so long is not there. Of other answers the system
may hold megabytes, which a slow client takes long over without a sign."""

UNREAD_BYTES: Final = 64 << 20
"""So much of a body is taken after its request was answered; then the connection is closed."""

STREAM_BYTES: Final = 8 << 10
"""What is held of a stream for a client that does not read it, by us, and by the system."""

VERSIONS: Final = frozenset({"1.1", "1.0"})
HOST: Final = re.compile(
    rb"[\w.~!$&'()*+,;=%-]*(:\d*)?|\[[0-9A-Fa-f:.]+(%[\w.~%-]+)?\](:\d*)?", re.ASCII
)
AUTHORITY: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
REASONS: Final = {
    400: ("Bad Request", "bad_request", "The request cannot be read"),
    408: ("Request Timeout", "request_timeout", "The request took too long"),
    431: ("Request Header Fields Too Large", "headers_too_large", "The head is too large"),
}


class _Framing(NamedTuple):
    """What the fields of a head say of it and its body."""

    size: int
    hosts: int
    host: bytes
    coding: bytes
    length: bytes


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _timer: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None
    _current: RequestResponseCycle | None = None
    _rejection = b""
    _in_head = _in_body = _rejected = _streams = False
    _heads = _head_bytes = _body_bytes = _non_body_bytes = 0
    _body_since = 0.0
    _answered_at: int | None = None
    _unparsed_bytes: int | None = None
    _host = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait, and tell all requests of the connection."""
        self._stop_waiting()
        self._stop_sending()
        for cycle in (self._current, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to take what it was sent; of a stream, not for ever."""
        super().pause_writing()
        if self._streams:
            self._sending = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on sending."""
        super().resume_writing()
        self._stop_sending()

    def data_received(self, data: bytes) -> None:
        """Take bytes; wait for more only where a request is not whole yet."""
        if self._rejected:
            return
        was_in_body, had, heads = self._in_body, self._body_bytes, self._heads
        was_idle = not (self._in_head or was_in_body)
        self._unset_keepalive_if_required()
        self._parse(data)
        same = heads == self._heads
        if self._rejected or self.transport.is_closing():
            self._stop_waiting()
        elif self._in_head:
            self._head_bytes += len(data)
            self._wait_for_head()
        elif self._in_body:
            non_body_bytes = was_in_body and same and self._body_bytes == had
            self._wait_for_body(len(data) if non_body_bytes else 0)
        else:
            if not (was_idle and same):
                self._stop_waiting()
            if self._is_idle():  # after a blank line, or the rest of an answered request
                self._wait_for_head()

    def _parse(self, data: bytes) -> None:
        """Parse as uvicorn does; the parser reads nothing after an offer of another protocol."""
        if self._unparsed_bytes is not None:
            self._receive_unparsed(data)
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not self._rejected:
                self._receive_unparsed(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _receive_unparsed(self, data: bytes) -> None:
        """Receive the body of the last request of the connection; ignore what follows it."""
        part = data[: self._unparsed_bytes or 0]
        if part:
            self._unparsed_bytes = (self._unparsed_bytes or 0) - len(part)
            self.on_body(part)
            self.on_message_complete()

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._in_head = True
        self._heads += 1
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End the head, and begin the body."""
        self._in_head = False
        if self._rejected:  # the parser goes on to what came with it
            return
        self._stop_waiting()
        fields = _framing(self.headers, self._host)
        if len(self.url) + fields.size > HEAD_BYTES or len(self.headers) > HEADERS:
            detail = f"a head has at most {HEAD_BYTES} bytes and {HEADERS} fields"
            self._reject(431, detail)
        elif problem := self._smuggling_risk(fields):
            self._reject(400, problem)
        else:
            self._in_body, self._body_bytes, self._body_since = True, 0, self.loop.time()
            self._non_body_bytes, self._answered_at = 0, None
            if self.parser.should_upgrade():
                self._unparsed_bytes = int(fields.length)
            self.begin()
            self.headers = []  # fields after the body are no fields of the head

    def _smuggling_risk(self, fields: _Framing) -> str:
        """Return what a proxy could read otherwise than we; "" where nothing is."""
        version = self.parser.get_http_version()
        hosts, host, coding = fields.hosts, fields.host, fields.coding
        if hosts != 1 and (hosts or version == "1.1"):
            return f"one Host is due, there are {hosts}"
        if host != self._host and not HOST.fullmatch(host):
            return "the Host is no host"
        self._host = host
        named = None if self.url.startswith(b"/") else AUTHORITY.match(self.url)
        if named and named[1].lower() != host.lower():
            return "the target names another host"
        return self._unsupported(version, coding)

    def _unsupported(self, version: str, coding: bytes) -> str:
        """Return what of HTTP is not spoken here; "" where all is."""
        if version not in VERSIONS:
            return "HTTP 1.1 is spoken here"
        if coding and (coding.lower() != b"chunked" or version == "1.0"):
            return "the only transfer coding is chunked, of HTTP 1.1"
        if self.parser.should_upgrade() and (coding or self.parser.get_method() == b"CONNECT"):
            return "no tunnels are made here, and an offer to upgrade takes no chunked body"
        return ""

    def begin(self) -> None:
        """Begin to answer a request whose head is there, and in order."""
        super().on_headers_complete()
        if self._unparsed_bytes is not None:
            self.cycle.keep_alive = False
        self.scope["extensions"] = cast("dict[str, Any]", {STREAM: self._limit_send_buffer})

    def _limit_send_buffer(self) -> None:
        """Buffer little for a client that does not read its stream."""
        self._streams = True
        self.transport.set_write_buffer_limits(STREAM_BYTES)
        with contextlib.suppress(OSError):
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * STREAM_BYTES)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._rejected:
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body."""
        if not (self._rejected or self._unparsed_bytes):
            self._in_body = False
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or no honest one."""
        self._reject(400, msg)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with what waited for this answer: another request, or a refusal."""
        super().on_response_complete()
        current = self._current
        if self._in_body and current is self.cycle:
            self._answered_at = self._body_bytes
        if self._rejection and (current is None or current.response_complete):
            self._close_with(self._rejection)

    def has_received_request(self) -> bool:
        """Tell whether the client has begun a request, ever."""
        return self._heads > 0

    def _header_timeout(self) -> None:
        self._timer = None
        if self._in_head:
            self._reject(408, f"a head is due within {HEAD_SECONDS:.0f} seconds")
        elif self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        """Tell whether no request waits for its answer."""
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_head(self) -> None:
        if self._head_bytes > HEAD_BYTES:
            self._reject(431, f"a head has at most {HEAD_BYTES} bytes")
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._header_timeout)

    def _wait_for_body(self, non_body_bytes: int) -> None:
        """Go on waiting for the rest of a body.

        Parameters
        ----------
        barren
            Bytes that came and held nothing of it: long chunk extensions, or trailers.
        """
        self._non_body_bytes = self._non_body_bytes + non_body_bytes if non_body_bytes else 0
        if self._non_body_bytes > HEAD_BYTES:
            self._reject(431, f"what is around a body has at most {HEAD_BYTES} bytes")
        elif self._answered_at is not None and self._body_bytes - self._answered_at > UNREAD_BYTES:
            self.transport.close()
        elif self._timer is None:
            self._timer = self.loop.call_later(BODY_SECONDS, self._look_at_body)

    def _look_at_body(self) -> None:
        """Refuse a body that is slower than it may be; look again later otherwise."""
        self._timer = None
        allowed = BODY_SECONDS + self._body_bytes / BODY_BYTES_PER_SECOND
        left = self._body_since + allowed - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left + 0.1, self._look_at_body)
        elif self._in_body:
            self._reject(408, f"a body is due within {BODY_SECONDS:.0f} seconds, or at 64 KiB/s")

    def _reject(self, status: int, detail: str) -> None:
        """Answer, where nothing was answered yet, and close."""
        if self._rejected:
            return
        self._rejected = True
        self._stop_waiting()
        answer, current = _answer(status, detail), self._current
        if self._in_body and self._answered_at is not None:
            self._close_with(b"")  # its one answer has been given
        elif current is None or current.response_complete:
            self._close_with(answer)
        elif current is not self.cycle or not self._in_body:
            self._rejection = answer  # after the answers to the requests before it
        else:
            current.disconnected = True
            current.message_event.set()
            self._close_with(b"" if current.response_started else answer)

    def _close_with(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            if answer:
                self.transport.write(answer)
            self.transport.close()

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _framing(headers: Sequence[tuple[bytes, bytes]], last_host: bytes) -> _Framing:
    """Return what the fields of a head say of it and its body."""
    size, hosts, host, coding, length = 0, 0, last_host, b"", b"0"
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            hosts, host = hosts + 1, value.strip(b" \t")
        elif name == b"transfer-encoding":
            coding += value.strip(b" \t")
        elif name == b"content-length":
            length = value.strip(b" \t")
    return _Framing(size, hosts, host, coding, length)


def _answer(status: int, detail: str) -> bytes:
    """Return a whole response with a problem as its body."""
    reason, code, title = REASONS[status]
    request_id = secrets.token_hex(16)
    problem: dict[str, Any] = {
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "",
        "code": code,
        "request_id": request_id,
    }
    body = json.dumps(problem).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
