"""uvicorn, configured for this service, with a shutdown that loses no request."""

import asyncio
import contextlib
import math
import signal
import socket
from collections.abc import Iterator
from typing import Any, Final, cast, final

import uvicorn
from fastapi import FastAPI

from service.server.http_protocol import HttpProtocol
from service.server.sockets import reject_new_connections
from service.settings import Settings

LAST_REQUEST_SECONDS: Final = 0.2
"""Time for a connection that is open at shutdown, or just being made, to send its last request."""

FIRST_REQUEST_SECONDS: Final = 2.0
"""The same for a connection that has not sent any request yet."""


@final
class GracefulServer(uvicorn.Server):
    """uvicorn with a shutdown that loses no request.

    On the first SIGTERM or SIGINT readiness turns to 503 while requests are still accepted, so that
    a load balancer can choose another server. Then the server stops accepting connections and ends
    when the requests in flight are finished.

    Parameters
    ----------
    protocol
        Creates the protocol of a connection.
    max_connections
        Connections beyond this number are answered 503.
    """

    def __init__(
        self, app: FastAPI, settings: Settings, protocol: Any, max_connections: int
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=settings.access_log,
            server_header=False,
            date_header=True,
            lifespan="on",
            http=protocol,
            ws="none",
            limit_concurrency=max_connections,
            timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_seconds),
        )
        super().__init__(config)
        self._app, self._drain_seconds = app, settings.drain_seconds

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on a signal, and exit with status 0 afterwards."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._drain)
        try:
            yield
        finally:
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(name)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the connections that are being made, then close as uvicorn does."""
        with contextlib.suppress(OSError):
            for listener in sockets or []:
                reject_new_connections(listener)
        connections = cast("set[HttpProtocol]", self.server_state.connections)
        for _ in range(round(FIRST_REQUEST_SECONDS / LAST_REQUEST_SECONDS)):
            await asyncio.sleep(LAST_REQUEST_SECONDS)
            if all(connection.has_received_request() for connection in connections):
                break
        await super().shutdown(sockets)

    def _drain(self) -> None:
        services = getattr(self._app.state, "services", None)
        if services is not None:
            services.closing.set()
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True
