"""Two servers behind a small proxy are restarted one after the other; no request fails."""

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

pytestmark = pytest.mark.slow
LAYERS = [{"type": "dense", "units": 10, "activation": "softmax"}]
PER_SECOND = 100
PROBE_SECONDS = 0.05
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Sends each request to the next server that says it is ready, over connections it keeps."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.get_loaded: list[Server] = []
        self._kept: dict[str, list[Streams]] = {server.url: [] for server in servers}
        self._turn = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, and look at the servers all the time."""
        looking = asyncio.create_task(self._look())
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as listener:
            self.port = listener.sockets[0].getsockname()[1]
            while len(self.get_loaded) < len(self.servers):
                await asyncio.sleep(PROBE_SECONDS)
            yield
            looking.cancel()
        for kept in self._kept.values():
            for _, writer in kept:
                writer.close()
                await writer.wait_closed()

    async def _look(self) -> None:
        async with httpx.AsyncClient(timeout=1.0) as client:
            while True:
                ready = []
                for server in self.servers:
                    with contextlib.suppress(httpx.TransportError):
                        answer = await client.get(f"{server.url}/readyz")
                        ready += [server] if answer.status_code == 200 else []
                self.get_loaded = ready
                await asyncio.sleep(PROBE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                _, request = await _message(reader)
                self._turn += 1
                while not self.get_loaded:
                    await asyncio.sleep(PROBE_SECONDS)
                server = self.get_loaded[self._turn % len(self.get_loaded)]
                writer.write(await self._forward(server, request))
        writer.close()
        await writer.wait_closed()

    async def _forward(self, server: Server, request: bytes) -> bytes:
        kept = self._kept[server.url]
        while kept and kept[-1][0].at_eof():
            kept.pop()[1].close()
        streams = kept.pop() if kept else await asyncio.open_connection("127.0.0.1", server.port)
        streams[1].write(request)
        head, answer = await _message(streams[0])
        if b"connection: close" in head:
            streams[1].close()
        else:
            kept.append(streams)
        return answer


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the head of a message, in small letters, and the whole of it."""
    head = await reader.readuntil(b"\r\n\r\n")
    small = head.lower()
    _, found, rest = small.partition(b"content-length:")
    length = int(rest.split(b"\r\n", 1)[0]) if found else 0
    return small, head + await reader.readexactly(length)


async def test_no_request_fails_while_one_server_after_the_other_is_restarted(
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
    told: list[tuple[int, str]] = []
    proxy, done = Proxy(servers), asyncio.Event()
    try:
        async with proxy.running():
            asking = asyncio.create_task(_ask(proxy.port, told, done))
            for server in servers:
                await asyncio.sleep(0.5)
                assert await asyncio.to_thread(server.stop) == 0
                await asyncio.to_thread(server.start)
                while len(proxy.get_loaded) < 2:
                    await asyncio.sleep(PROBE_SECONDS)
            await asyncio.sleep(0.5)
            done.set()
            await asking
    finally:
        for server in servers:
            server.client.close()
            await asyncio.to_thread(server.stop)

    assert [answer for answer in told if answer[0] >= 400] == []
    assert len(told) > 3 * PER_SECOND


async def _ask(port: int, told: list[tuple[int, str]], done: asyncio.Event) -> None:
    """Classify, look at jobs and begin some, a hundred times a second."""
    limits = httpx.Limits(max_connections=50)
    job = {"network": "net", "dataset": "digits", "training": {"epochs": 20}}
    row = {"inputs": [[0.5] * 25]}

    async def one(number: int) -> None:
        if number % 25 == 0:
            answer = await client.post("/v1/jobs", json=job)
        elif number % 5 == 0:
            answer = await client.get("/v1/jobs?limit=5")
        else:
            answer = await client.post("/v1/networks/net/classify", json=row)
        told.append((answer.status_code, answer.text[:200]))

    url = f"http://127.0.0.1:{port}"
    async with (
        httpx.AsyncClient(base_url=url, limits=limits, timeout=20.0) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in itertools.count():
            if done.is_set():
                break
            group.create_task(one(number))
            await asyncio.sleep(1 / PER_SECOND)
