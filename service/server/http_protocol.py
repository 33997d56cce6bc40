"""uvicorn's HTTP protocol with size limits, deadlines and stricter parsing.

uvicorn over httptools accepts headers of any length and waits for the rest of a request for ever.
Here headers have a size limit and a deadline. A body has a deadline that moves with the bytes that
have arrived: a slow client is rejected, a long upload is not. A request that arrives whole, as most
do, never starts a timer. A request that a proxy could interpret differently is rejected.
"""

import asyncio
import contextlib
import re
import socket
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.request_checks import OVERLOADED
from service.api.response_limits import STREAM
from service.server.http_framing import (
    UNTIL_CLOSE,
    Framing,
    error_response,
    read_framing,
    target_problem,
)

MAX_HEADER_BYTES: Final = 16 << 10
MAX_HEADERS: Final = 100
HEADER_TIMEOUT_SECONDS: Final = 10.0
BODY_TIMEOUT_SECONDS: Final = 60.0
MIN_BODY_BYTES_PER_SECOND: Final = 64 << 10
"""A body may take `BODY_TIMEOUT_SECONDS`, and a second more for each of this many bytes."""

STALLED_STREAM_SECONDS: Final = 60.0
"""A client that reads nothing of a stream for this long is disconnected.

Other responses have no such limit: the kernel may buffer megabytes, which a slow client needs
minutes to read.
"""

MAX_IGNORED_BYTES: Final = 512 << 20
"""Bytes that are read and ignored after the response, before the connection is closed.

A client that is still sending would see a reset instead of the response.
"""

LINGER_SECONDS: Final = 30.0
"""Maximum time for which bytes are ignored after the last response of a connection."""

MAX_STREAM_BUFFER_BYTES: Final = 8 << 10
"""Stream bytes buffered for a client that does not read; the kernel buffers twice as many."""

VERSIONS: Final = frozenset({"1.1", "1.0"})
HOST: Final = re.compile(
    rb"[\w.~!$&'()*+,;=%-]*(:\d*)?|\[[0-9A-Fa-f:.]+(%[\w.~%-]+)?\](:\d*)?", re.ASCII
)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _receive_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    _current: RequestResponseCycle | None = None
    _rejection = b""
    _in_headers = _in_body = _rejected = _is_streaming = False
    _requests = _header_bytes = _body_bytes = _non_body_bytes = 0
    _body_started_at = 0.0
    _answered_at_bytes: int | None = None
    _unparsed_bytes: int | None = None
    _host = b""
    _valid_head: tuple[Any, ...] = ()
    _repeats = False
    _ignored_bytes: int | None = None
    """Set after the last response, while the client is still sending."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # uvicorn would answer without a problem document; see `is_overloaded`.
        self._max_connections, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._receive_timer = self.loop.call_later(HEADER_TIMEOUT_SECONDS, self._header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers, and disconnect all requests of the connection."""
        self._cancel_receive_timer()
        self._cancel_send_timer()
        for cycle in (self._current, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Pause until the client reads; disconnect it if it stops reading a stream."""
        super().pause_writing()
        if self._is_streaming:
            self._send_timer = self.loop.call_later(STALLED_STREAM_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Resume writing."""
        super().resume_writing()
        self._cancel_send_timer()

    def data_received(self, data: bytes) -> None:
        """Receive bytes; start a deadline only if a request is incomplete."""
        if self._rejected or self._ignored_bytes is not None:
            self._ignore(data)
            return
        was_in_body, previous_bytes, requests = self._in_body, self._body_bytes, self._requests
        was_idle = not (self._in_headers or was_in_body)
        self._unset_keepalive_if_required()
        self._parse(data)
        is_same_request = requests == self._requests
        if self._rejected or self.transport.is_closing():
            self._cancel_receive_timer()
        elif self._in_headers:
            self._header_bytes += len(data)
            self._expect_headers()
        elif self._in_body:
            non_body_bytes = was_in_body and is_same_request and self._body_bytes == previous_bytes
            self._expect_body(len(data) if non_body_bytes else 0)
        else:
            if not (was_idle and is_same_request):
                self._cancel_receive_timer()
            if (
                self._is_idle()
            ):  # after a blank line, or the rest of the body of an answered request
                self._expect_headers()

    def _ignore(self, data: bytes) -> None:
        """Count bytes that are ignored; close the connection after too many of them."""
        if self._ignored_bytes is not None:
            self._ignored_bytes += len(data)
            if self._ignored_bytes > MAX_IGNORED_BYTES:
                self.transport.close()

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
        """Start the headers of a request."""
        self._in_headers = True
        self._requests += 1
        self._header_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Validate the headers, and start the body."""
        self._in_headers = False
        if self._rejected:  # the parser continues with bytes that arrived together
            return
        self._cancel_receive_timer()
        head = (self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        self._repeats = head == self._valid_head
        if self._repeats:  # as most requests of a connection
            self._start_body()
            return
        fields = read_framing(self.headers, self._host)
        if len(self.url) + fields.size > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            detail = f"headers exceed {MAX_HEADER_BYTES} bytes or {MAX_HEADERS} fields"
            self._reject(431, detail)
        elif problem := self._smuggling_risk(fields):
            self._reject(400, problem)
        else:
            if fields.has_upgrade and self.parser.should_upgrade():
                self._unparsed_bytes = int(fields.content_length)
            else:
                self._valid_head = head
            self._start_body()

    def _start_body(self) -> None:
        """Start the body of a request with valid headers."""
        self._in_body, self._body_bytes, self._body_started_at = True, 0, self.loop.time()
        self._non_body_bytes, self._answered_at_bytes = 0, None
        self.begin()
        self.headers = []  # trailers are not headers

    def _smuggling_risk(self, fields: Framing) -> str:
        """Return why a proxy could interpret the request differently; "" if it cannot."""
        version = self.parser.get_http_version()
        hosts, host = fields.hosts, fields.host
        if hosts != 1 and (hosts or version == "1.1"):
            return f"expected exactly one Host header, got {hosts}"
        if host != self._host and not HOST.fullmatch(host):
            return "invalid Host header"
        self._host = host
        if problem := target_problem(self.url, host):
            return problem
        return self._unsupported(version, fields)

    def _unsupported(self, version: str, fields: Framing) -> str:
        """Return which feature of HTTP is not supported; "" if all are."""
        coding = fields.transfer_encoding
        if version not in VERSIONS:
            return "unsupported HTTP version"
        if coding and (coding.lower() != b"chunked" or version == "1.0"):
            return "unsupported Transfer-Encoding: only chunked, with HTTP/1.1"
        if self.parser.get_method() == b"CONNECT":
            return "CONNECT is not supported"
        if coding and fields.has_upgrade:
            return "a request with Upgrade must not have a chunked body"
        return ""

    def begin(self) -> None:
        """Start to handle a request whose headers are valid."""
        extensions: dict[str, Any] = {STREAM: self._limit_send_buffer}
        if self.is_overloaded():
            extensions[OVERLOADED] = True
        self.scope["extensions"] = cast("Any", extensions)
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", _ClosingTransport(self))
        if self._unparsed_bytes is not None:
            self.cycle.keep_alive = False
        if self.parser.get_http_version() == "1.0":  # it has no chunks: the body ends at the close
            self.cycle.chunked_encoding = False
            self.cycle.expected_content_length = UNTIL_CLOSE

    def is_overloaded(self) -> bool:
        """Return True if the server has more connections than it may have."""
        limit = self._max_connections
        return limit is not None and len(self.connections) > limit

    def _limit_send_buffer(self) -> None:
        """Buffer little for a client that does not read its stream."""
        self._is_streaming = True
        self.transport.set_write_buffer_limits(MAX_STREAM_BUFFER_BYTES)
        with contextlib.suppress(OSError):
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_STREAM_BUFFER_BYTES)

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        if not self._rejected:
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Finish the body."""
        if not (self._rejected or self._unparsed_bytes):
            self._in_body = False
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Reject bytes that are not valid HTTP."""
        self._reject(400, msg)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Continue with the next request, or with a rejection that waited for this response."""
        if self._ignored_bytes is not None:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        current = self._current
        if self._in_body and current is self.cycle:
            self._answered_at_bytes = self._body_bytes
        if self._rejection and (current is None or current.response_complete):
            self._close_with(self._rejection)

    def has_received_request(self) -> bool:
        """Return True if the client has started a request on this connection."""
        return self._requests > 0

    def _header_timeout(self) -> None:
        self._receive_timer = None
        if self._in_headers:
            self._reject(408, f"request headers timed out after {HEADER_TIMEOUT_SECONDS:.0f} s")
        elif self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        """Return True if no request waits for its response."""
        return self.cycle is None or self.cycle.response_complete

    def _expect_headers(self) -> None:
        if self._header_bytes > MAX_HEADER_BYTES:
            self._reject(431, f"headers exceed {MAX_HEADER_BYTES} bytes")
        elif self._receive_timer is None:
            self._receive_timer = self.loop.call_later(HEADER_TIMEOUT_SECONDS, self._header_timeout)

    def _expect_body(self, non_body_bytes: int) -> None:
        """Continue to wait for the rest of a body.

        Parameters
        ----------
        non_body_bytes
            Bytes that arrived outside the body, such as long chunk extensions or trailers.
        """
        self._non_body_bytes = self._non_body_bytes + non_body_bytes if non_body_bytes else 0
        if self._non_body_bytes > MAX_HEADER_BYTES:
            self._reject(431, f"chunk extensions and trailers exceed {MAX_HEADER_BYTES} bytes")
        elif (
            self._answered_at_bytes is not None
            and self._body_bytes - self._answered_at_bytes > MAX_IGNORED_BYTES
        ):
            self.transport.close()
        elif self._receive_timer is None:
            self._receive_timer = self.loop.call_later(BODY_TIMEOUT_SECONDS, self._body_timeout)

    def _body_timeout(self) -> None:
        """Reject a body that is too slow; check again later otherwise."""
        self._receive_timer = None
        allowed = BODY_TIMEOUT_SECONDS + self._body_bytes / MIN_BODY_BYTES_PER_SECOND
        left = self._body_started_at + allowed - self.loop.time()
        if left > 0:
            self._receive_timer = self.loop.call_later(left + 0.1, self._body_timeout)
        elif self._in_body:
            self._reject(
                408, f"request body timed out ({BODY_TIMEOUT_SECONDS:.0f} s, then 64 KiB/s)"
            )

    def _reject(self, status: int, detail: str) -> None:
        """Send an error, unless the request was answered already, and close the connection."""
        if self._rejected:
            return
        self._rejected = True
        self._cancel_receive_timer()
        response, current = error_response(status, detail), self._current
        if self._in_body and self._answered_at_bytes is not None:
            self._close_with(b"")  # it has its response already
        elif current is None or current.response_complete:
            self._close_with(response)
        elif current is not self.cycle or not self._in_body:
            self._rejection = response  # after the responses to earlier requests
        else:
            current.disconnected = True
            current.message_event.set()
            self._close_with(b"" if current.response_started else response)

    def _close_with(self, response: bytes) -> None:
        if not self.transport.is_closing():
            if response:
                self.transport.write(response)
            self.close_after_response()

    def close_after_response(self) -> None:
        """Close the connection, after reading on if the client is still sending a request."""
        if self.transport.is_closing() or self._ignored_bytes is not None:
            return
        if not (self._in_headers or self._in_body):
            self.transport.close()
            return
        self._ignored_bytes = 0
        self._cancel_receive_timer()
        self._unset_keepalive_if_required()
        self._receive_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        self.flow.resume_reading()
        with contextlib.suppress(OSError, NotImplementedError):
            self.transport.write_eof()

    def _cancel_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _cancel_receive_timer(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None


class _ClosingTransport:
    """The transport of a cycle, whose `close` lets a client that is still sending see the response.

    Parameters
    ----------
    protocol
        The connection.
    """

    def __init__(self, protocol: HttpProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        """Close the connection after the response."""
        self._protocol.close_after_response()
