"""Real servers for the acceptance tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.server import Server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server; all servers are stopped afterwards."""
    started: list[Server] = []

    def start(name: str = "data", *, workers: int = 2, **environment: str) -> Server:
        server = Server(tmp_path / name, workers=workers, environment=environment)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.client.close()
        if server.process is not None and server.process.poll() is None:
            server.stop()
