"""Event streams of running jobs, and of slow and stalled subscribers."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.sse import expanded
from service.api.v1.jobs.events import PART_BYTES, parts_of
from service.application.jobs.event_bus import MAX_BATCHES, EventBus
from service.application.jobs.event_log import JobEventLog
from service.application.jobs.event_streams import EventStreams
from service.application.jobs.lookup import find_job
from service.bootstrap import prepare
from service.domain.jobs import EventBatch, Progress, merged
from service.infrastructure.database.engine import SqlDatabase, sqlite_url
from service.infrastructure.database.job_events import SqlJobEvents
from service.server import http_protocol
from service.settings import Settings
from tests.service.conftest import Json, Train
from tests.service.event_stream import parse, unchunked
from tests.service.fakes import seeded_job


@dataclass
class JobLog:
    """A job without a worker, and its event log."""

    database: SqlDatabase
    event_log: JobEventLog
    streams: EventStreams
    job_id: str

    async def add_epochs(self, count: int) -> None:
        """Log `count` batches of two epochs."""
        for _ in range(count):
            async with self.database.write() as work:
                job = await find_job(work, "me", self.job_id)
                epoch = job.progress.epoch
                columns: dict[str, list[Any]] = {
                    "epoch": [epoch + 1, epoch + 2],
                    "train_loss": [0.5, 0.25],
                }
                await self.event_log.epochs(work, job, columns, Progress(epoch=epoch + 2))

    async def note(self) -> None:
        async with self.database.write() as work:
            job = await find_job(work, "me", self.job_id)
            await self.event_log.note(work, job, "log", {"text": "not lost"})

    async def follow(self) -> AsyncIterator[EventBatch]:
        async for batches in self.streams.follow({self.job_id: 0}):
            for batch in batches:
                yield batch


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[JobLog]:
    folder = prepare(Settings(data_dir=tmp_path / "data"))
    database, event_bus = SqlDatabase(sqlite_url(folder.database)), EventBus()
    streams = EventStreams(database, event_bus, asyncio.Event())
    yield JobLog(database, JobEventLog(event_bus), streams, (await seeded_job(database)).id)
    await database.close()
    folder.release()


async def test_a_slow_subscriber_receives_the_last_epoch_of_each_batch(log: JobLog) -> None:
    stream = log.follow()
    assert (await anext(stream)).type == "state"
    await log.add_epochs(1)
    assert (await anext(stream)).data["epoch"] == [1, 2]
    await log.add_epochs(20)
    await log.note()
    await log.add_epochs(MAX_BATCHES + 10)
    last = 2 * (31 + MAX_BATCHES)  # epochs, besides one state event and one log event

    behind = [await anext(stream)]
    while behind[-1].last_id < last + 2:
        behind.append(await anext(stream))

    assert [batch.type for batch in behind].count("log") == 1
    epochs = [batch for batch in behind if batch.type == "epoch"]
    slow = [batch for batch in epochs if "merged" in batch.data]
    assert slow
    assert all(batch.data["merged"] == [2] and batch.first_id == batch.last_id for batch in slow)
    assert [batch.data["epoch"][-1] for batch in epochs] == [*range(4, last + 1, 2)]
    await log.add_epochs(1)
    assert (await anext(stream)).data["epoch"] == [last + 1, last + 2]


async def test_thirty_concurrent_replays_share_database_reads(
    log: JobLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.add_epochs(MAX_BATCHES + 20)
    reads = 0
    after = SqlJobEvents.after

    async def counted(
        self: SqlJobEvents, job_id: str, event: int, limit: int
    ) -> Sequence[EventBatch]:
        nonlocal reads
        reads += 1
        return await after(self, job_id, event, limit)

    async def replay(stream: AsyncIterator[EventBatch]) -> list[EventBatch]:
        return [await anext(stream) for _ in range(MAX_BATCHES + 20)]

    monkeypatch.setattr(SqlJobEvents, "after", counted)
    replays = await asyncio.gather(*(replay(log.follow()) for _ in range(30)))

    assert all(events == replays[0] for events in replays)
    assert [batch.first_id for batch in replays[0][1:]] == [r.last_id + 1 for r in replays[0][:-1]]
    assert 0 < reads < 20


@given(st.lists(st.binary(max_size=3 * PART_BYTES), max_size=5))
def test_parts_join_to_the_whole_and_respect_the_size_limit(encoded: list[bytes]) -> None:
    parts = list(parts_of(encoded))

    assert b"".join(parts) == b"".join(encoded)
    assert all(0 < len(part) <= PART_BYTES for part in parts)


async def test_events_of_a_running_job_arrive_without_gaps_or_repeats(
    socket_client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": {"epochs": 20_000}}
    job = (await socket_client.post("/v1/jobs", json=body)).json()["id"]
    url = f"/v1/jobs/{job}/events"
    text = ""
    async with socket_client.stream("GET", url, timeout=30.0) as stream:
        async for part in stream.aiter_text():
            text += part
            if text.count("event: epoch") > 300:
                await socket_client.post(f"/v1/jobs/{job}/cancel")

    numbers = [int(number or 0) for number, _, _ in parse(text)]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert parse(text)[-1][1] == "end"


async def test_a_stalled_subscriber_is_disconnected_and_can_resume(
    socket_client: httpx.AsyncClient, network: Json, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "STALLED_STREAM_SECONDS", 0.3)
    job = await train(network["id"], epochs=5000)
    url, base = f"/v1/jobs/{job['id']}/events", socket_client.base_url
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (base.host, base.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1024)
    writer.write(f"GET {url} HTTP/1.1\r\nHost: {base.host}:{base.port}\r\n\r\n".encode())
    await asyncio.sleep(0.8)  # longer than STALLED_STREAM_SECONDS: the client is stalled
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := await asyncio.wait_for(reader.read(1 << 16), 5):
            received += part
    writer.close()

    assert received.startswith(b"HTTP/1.1 200")
    lines = unchunked(received.partition(b"\r\n\r\n")[2]).split(b"\n")[:-1]  # the last may be cut
    assert b"event: end" not in lines
    seen = [int(line[4:]) for line in lines if line.startswith(b"id: ")]
    assert seen == [*range(1, len(seen) + 1)]
    rest = parse((await socket_client.get(url, headers={"Last-Event-ID": str(seen[-1])})).text)
    assert int(rest[0][0] or 0) == seen[-1] + 1
    assert rest[-1][1] == "end"


async def test_a_slow_client_receives_all_of_a_large_response(
    socket_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [{"type": "dense", "units": 1500}, {"type": "dense", "units": 300}]
    body = {"name": "large", "input_shape": [25], "layers": layers}
    (await socket_client.post("/v1/networks", json=body)).raise_for_status()
    url, base = "/v1/networks/large/weights", socket_client.base_url
    whole = (await socket_client.get(url)).content
    monkeypatch.setattr(http_protocol, "STALLED_STREAM_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection(base.host, base.port, limit=1024)
    head = f"GET {url} HTTP/1.1\r\nHost: {base.host}:{base.port}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    begun, received = time.monotonic(), b""

    while part := await asyncio.wait_for(reader.read(1 << 18), 5):
        received += part
        if time.monotonic() - begun < 1.2:
            await asyncio.sleep(0.1)  # a slow reader
    writer.close()
    await socket_client.delete("/v1/networks/large")

    assert received.partition(b"\r\n\r\n")[2] == whole


async def test_head_of_a_stream_returns_its_headers(
    socket_client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": {"epochs": 20_000}}
    job = (await socket_client.post("/v1/jobs", json=body)).json()["id"]

    response = await socket_client.head(f"/v1/jobs/{job}/events")

    assert response.headers["content-type"].startswith("text/event-stream")
    assert (await socket_client.post(f"/v1/jobs/{job}/cancel")).is_success


def test_a_batch_is_merged_from_the_last_event_that_was_read() -> None:
    batch = EventBatch(
        "job", 5, 9, "epoch", {"epoch": [1, 2, 3, 4, 5], "train_loss": [5, 4, 3, 2, 1]}
    )

    result = merged(batch, after=6)

    assert result == EventBatch(
        "job", 9, 9, "epoch", {"epoch": [5], "train_loss": [1], "merged": [3]}
    )
    assert [*expanded(result, 6)] == [(9, "epoch", {"epoch": 5, "train_loss": 1, "merged": 3})]
    state = EventBatch("job", 1, 1, "state", {"status": "queued"})
    assert merged(state, 0) is state


async def test_invalidating_the_event_bus_clears_it_and_wakes_subscribers() -> None:
    event_bus = EventBus()
    event_bus.publish(EventBatch("job", 1, 1, "state", {}))
    assert event_bus.after("job", 1) == []
    news = event_bus.next("job")

    event_bus.invalidate()

    await asyncio.wait_for(news, 5)
    assert event_bus.after("job", 1) is None
