"""Connections that answer plain inference calls by themselves, before the framework.

No task, no scope and no messages are made for such a request: its answer is one write. What the
hot path does not take is handed on as if it had only now arrived.
"""

import itertools
import secrets
from typing import Any, Final, final

from service.api.hot import HotAnswer
from service.api.inference_pipeline import HotPath, Target
from service.server.http_protocol import HttpProtocol

PROCESS: Final = secrets.token_hex(12).encode()
"""Tells apart the request ids of processes; a number follows, far cheaper than chance."""

_numbers = itertools.count()


@final
class InferenceHttpProtocol(HttpProtocol):
    """One connection.

    Parameters
    ----------
    hot
        The application's hot path.
    """

    def __init__(self, *, hot: HotPath, **options: Any) -> None:
        super().__init__(**options)
        self._hot = hot
        self._target: Target | None = None
        self._pieces: list[bytes] = []
        self._waits = False

    def on_message_begin(self) -> None:
        """Begin a head; whoever sends the next request at once gets answers in their order."""
        if self._waits:
            self._hot.flush()
            self._unset_keepalive_if_required()  # the next request is here already
        super().on_message_begin()

    def begin(self) -> None:
        """Keep a request that the hot path may answer until its body is there."""
        self._pieces = []
        self._target = self._asked() if self._is_plain() else None
        if self._target is None:
            super().begin()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._target is None:
            super().on_body(body)
        else:
            self._body_bytes += len(body)
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Ask for the answer, here or on the ordinary road."""
        target = self._target
        if target is None or self._rejected:
            super().on_message_complete()
            return
        self._in_body = False
        self._waits = self._hot.ask(target, b"".join(self._pieces), self)
        if not self._waits:
            self.declined()

    def answered(self, answer: HotAnswer) -> None:
        """Send an answer."""
        self._forget()
        if self.transport.is_closing():
            return
        body, own = answer
        date = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(
            b"HTTP/1.1 200 OK\r\n%s%scontent-length: %d\r\nx-request-id: %s%08x\r\n"
            b"x-content-type-options: nosniff\r\n\r\n%s"
            % (date, own, len(body), PROCESS, next(_numbers), body)
        )
        self.on_response_complete()

    def declined(self) -> None:
        """Hand a whole request on."""
        if not self.transport.is_closing():
            self._hand_on()
            super().on_message_complete()

    def release_after_server_loss(self) -> None:
        """Close: there will be no answer."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Close when what has begun is answered."""
        if self._waits:
            self._hot.flush()
        elif self._target is not None:
            self._hand_on()
        super().shutdown()

    def _is_plain(self) -> bool:
        """Tell whether nothing but this request matters to the connection."""
        busy = self.cycle is not None and not self.cycle.response_complete
        limit = self.limit_concurrency
        return (
            self.parser.get_method() == b"POST"
            and not busy
            and not self.flow.write_paused
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and (limit is None or len(self.connections) < limit)
        )

    def _is_idle(self) -> bool:
        return not self._waits and super()._is_idle()

    def _hand_on(self) -> None:
        """Let the framework have what has come of a request."""
        pieces = self._pieces
        self._forget()
        super().begin()
        for piece in pieces:
            self.cycle.body += piece

    def _asked(self) -> Target | None:
        address = self.client[0] if self.client else ""
        return self._hot.target(self.url, self.headers, address)

    def _forget(self) -> None:
        self._target, self._pieces, self._waits = None, [], False
