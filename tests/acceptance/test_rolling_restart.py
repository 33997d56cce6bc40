"""Two servers behind a small proxy are restarted one after the other."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests import postgres
from tests.acceptance.server import Server
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
LAYERS = [{"type": "dense", "units": 10, "activation": "softmax"}]
PER_SECOND = 100
PROBE_SECONDS = 0.05
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Send each request to the next ready server, over persistent connections."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.ready: list[Server] = []
        self._idle: dict[str, list[Streams]] = {server.url: [] for server in servers}
        self._turn = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, and probe the servers continuously."""
        probing = asyncio.create_task(self._probe())
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as listener:
            self.port = listener.sockets[0].getsockname()[1]
            await wait_until(lambda: len(self.ready) == len(self.servers))
            yield
            probing.cancel()
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
                await writer.wait_closed()

    async def _probe(self) -> None:
        async with httpx.AsyncClient(timeout=1.0) as client:
            while True:
                ready = []
                for server in self.servers:
                    with contextlib.suppress(httpx.TransportError):
                        response = await client.get(f"{server.url}/readyz")
                        ready += [server] if response.status_code == 200 else []
                self.ready = ready
                await asyncio.sleep(PROBE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                _, request = await _message(reader)
                self._turn += 1
                await wait_until(lambda: self.ready)
                server = self.ready[self._turn % len(self.ready)]
                writer.write(await self._forward(server, request))
        writer.close()
        await writer.wait_closed()

    async def _forward(self, server: Server, request: bytes) -> bytes:
        connections = self._idle[server.url]
        while connections and connections[-1][0].at_eof():
            connections.pop()[1].close()
        streams = (
            connections.pop()
            if connections
            else await asyncio.open_connection("127.0.0.1", server.port)
        )
        streams[1].write(request)
        head, response = await _message(streams[0])
        if b"connection: close" in head:
            streams[1].close()
        else:
            connections.append(streams)
        return response


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the head of a message in lower case, and the whole message."""
    head = await reader.readuntil(b"\r\n\r\n")
    lower_head = head.lower()
    _, has_body, rest = lower_head.partition(b"content-length:")
    length = int(rest.split(b"\r\n", 1)[0]) if has_body else 0
    return lower_head, head + await reader.readexactly(length)


async def test_no_request_fails_during_a_rolling_restart(
    own_postgres: postgres.Postgres, tmp_path: Path
) -> None:
    database = own_postgres.create(f"db{time.time_ns()}")
    environment = {"NEUROND_DATABASE_URL": database, "NEUROND_DRAIN_SECONDS": "0.5"}
    servers = [Server(tmp_path / "data", workers=1, environment=environment) for _ in range(2)]
    for server in servers:
        await asyncio.to_thread(server.start)
    body = {"name": "net", "input_shape": [25], "layers": LAYERS, "seed": 1}
    servers[0].client.post("/v1/networks", json=body).raise_for_status()
    data = {"name": "digits", "builtin": "digits", "samples": 500, "seed": 1}
    servers[0].client.post("/v1/datasets", json=data).raise_for_status()
    responses: list[tuple[int, str]] = []
    proxy, done = Proxy(servers), asyncio.Event()
    try:
        async with proxy.running():
            requests = asyncio.create_task(_send_requests(proxy.port, responses, done))
            for server in servers:
                await asyncio.sleep(0.5)  # requests with both servers
                assert await asyncio.to_thread(server.stop) == 0
                await asyncio.to_thread(server.start)
                await wait_until(lambda: len(proxy.ready) == 2)
            await asyncio.sleep(0.5)  # requests with both servers
            done.set()
            await requests
    finally:
        for server in servers:
            server.client.close()
            await asyncio.to_thread(server.stop)

    assert [response for response in responses if response[0] >= 400] == []
    assert len(responses) > 3 * PER_SECOND


async def _send_requests(port: int, responses: list[tuple[int, str]], done: asyncio.Event) -> None:
    """Classify, list jobs and create jobs, a hundred requests per second."""
    limits = httpx.Limits(max_connections=50)
    job = {"network": "net", "dataset": "digits", "training": {"epochs": 20}}
    row = {"inputs": [[0.5] * 25]}

    async def send_request(number: int) -> None:
        if number % 25 == 0:
            response = await client.post("/v1/jobs", json=job)
        elif number % 5 == 0:
            response = await client.get("/v1/jobs?limit=5")
        else:
            response = await client.post("/v1/networks/net/classify", json=row)
        responses.append((response.status_code, response.text[:200]))

    url = f"http://127.0.0.1:{port}"
    async with (
        httpx.AsyncClient(base_url=url, limits=limits, timeout=20.0) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in itertools.count():
            if done.is_set():
                break
            group.create_task(send_request(number))
            await asyncio.sleep(1 / PER_SECOND)
