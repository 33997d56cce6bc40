"""The HTTP adapter of the inference pipeline.

A small request that has arrived whole needs no task, scope or messages: the pipeline answers it at
the end of the event-loop iteration with a single write. All other requests become ASGI requests.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, final
from urllib.parse import unquote

from service.api.encoding import routed_path
from service.api.inference_middleware import PENDING
from service.api.inference_pipeline import CLOSE, FinishedResponse, InferencePipeline
from service.api.protocols.base import InferenceRequest
from service.server.http_protocol import HttpProtocol

MAX_CONTENT_LENGTH_DIGITS: Final = 9

ASGI_HEADERS: Final = frozenset(
    {b"expect", b"transfer-encoding", b"upgrade", b"content-encoding", b"x-forwarded-for"}
)
"""Headers that only the ASGI adapter, or the server in front of it, handles."""

REASONS: Final = {200: b"OK"}


class _Target(NamedTuple):
    """Path, headers and address, which are all that the pipeline reads of a head."""

    path: str
    headers: Mapping[bytes, bytes]
    address: str


@final
class InferenceHttpProtocol(HttpProtocol):
    """One connection.

    Parameters
    ----------
    pipeline
        The application's.
    """

    def __init__(self, *, pipeline: InferencePipeline, **options: Any) -> None:
        super().__init__(**options)
        self._pipeline = pipeline
        self._request: InferenceRequest | None = None
        self._target: _Target | None = None
        self._chunks: list[bytes] = []
        self._pending = self._is_target_read = False

    def on_message_begin(self) -> None:
        """Start a head; first answer what is pending, so that responses keep their order."""
        if self._pending:
            self._flush()
            self._unset_keepalive_if_required()  # the next request is already here
        super().on_message_begin()

    def begin(self) -> None:
        """Buffer the body of a request that the pipeline may answer."""
        self._chunks = []
        if not self._repeats:  # the target belongs to another head
            self._target, self._is_target_read = None, False
        self._request = self._match() if self._is_whole_and_alone() else None
        if self._request is None:
            super().begin()
        elif not self._pipeline.admit(self._request):
            self._hand_over()

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        if self._request is None:
            super().on_body(body)
        else:
            self._body_bytes += len(body)
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        """Let the pipeline answer, or the application."""
        request = self._request
        if request is None or self._rejected:
            super().on_message_complete()
            return
        self._in_body = False
        request.body = b"".join(self._chunks)
        self._pending = True
        if not self._pipeline.start(request, self._respond):
            self._hand_over()
            super().on_message_complete()

    def _respond(self, response: FinishedResponse) -> None:
        """Write the response to the pending request."""
        request, self._request, self._pending = self._request, None, False
        if self.transport.is_closing() or request is None:
            return
        status, headers, body = response
        date = b"".join([b"%s: %s\r\n" % header for header in self.server_state.default_headers])
        reason = REASONS.get(status, b"")
        self.transport.write(
            b"HTTP/1.1 %d %s\r\n%s%s\r\n%s" % (status, reason, date, headers, body)
        )
        if self.access_log:
            self.access_logger.info(
                '%s - "%s %s HTTP/%s" %d',
                f"{self.client[0]}:{self.client[1]}" if self.client else "",
                "POST",
                self.url.decode("latin-1"),
                "1.1",
                status,
            )
        if headers.endswith(CLOSE):
            self.transport.close()
        self.on_response_complete()

    def shutdown(self) -> None:
        """Close when the requests that have begun are answered."""
        if self._pending:
            self._flush()
        elif self._request is not None:
            self._hand_over()
        super().shutdown()

    def _is_whole_and_alone(self) -> bool:
        """Return True for a small keep-alive POST on a connection without other requests."""
        busy = self.cycle is not None and not self.cycle.response_complete
        return (
            self.parser.get_method() == b"POST"
            and not busy
            and not self.flow.write_paused
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.is_overloaded()
        )

    def _match(self) -> InferenceRequest | None:
        """Return the inference request that a head begins, if its body is short."""
        if not self._is_target_read:
            self._target, self._is_target_read = self._read_target(), True
        if self._target is None:
            return None
        path, headers, address = self._target
        return self._pipeline.match(path, headers, address)

    def _read_target(self) -> _Target | None:
        """Return the target of a head; None if the body is not short."""
        services, headers = self._pipeline.services, dict(reversed(self.headers))
        if services is None or not ASGI_HEADERS.isdisjoint(headers):
            return None
        if services.cors_origins and b"origin" in headers:
            return None  # the middleware for CORS handles it
        length = headers.get(b"content-length", b"")
        short = length.isdigit() and len(length) <= MAX_CONTENT_LENGTH_DIGITS
        if not short or int(length) > services.limits.inline_bytes:
            return None
        raw = self.url
        if b"?" in raw:
            return None
        path = raw.decode("latin-1")
        if b"%" in raw:
            path = routed_path(raw, unquote(path))
        return _Target(path, headers, self.client[0] if self.client else "")

    def _is_idle(self) -> bool:
        return not self._pending and super()._is_idle()

    def _flush(self) -> None:
        services = self._pipeline.services
        if services is not None:
            services.inference.flush()

    def _hand_over(self) -> None:
        """Make an ASGI request of what has arrived of a request."""
        request, chunks = self._request, self._chunks
        self._request, self._chunks, self._pending = None, [], False
        super().begin()
        extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
        extensions[PENDING] = request
        for chunk in chunks:
            self.cycle.body += chunk
