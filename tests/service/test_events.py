"""A job's events: one log, as a stream and as pages."""

import asyncio
import contextlib
import json
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
from service.application.jobs.jobs import find_job
from service.bootstrap import prepare
from service.domain.jobs import EventBatch, Progress, merged
from service.infrastructure.database.engine import SqlDatabase, sqlite_url
from service.infrastructure.database.job_events import SqlJobEvents
from service.server import http_protocol as guarded_protocol
from service.settings import Settings
from tests.service.conftest import Json, Train, problem
from tests.service.fakes import seeded_job


def parse(text: str) -> list[tuple[str | None, str, Json]]:
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            events.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return events


async def test_a_finished_job_replays_and_ends(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=30)
    url = f"/v1/jobs/{job['id']}/events"

    stream = await client.get(url)

    events = parse(stream.text)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert [int(number or 0) for number, _, _ in events] == list(range(1, len(events) + 1))
    states = [data["status"] for _, kind, data in events if kind == "state"]
    assert states == ["queued", "starting", "running", "succeeded"]
    assert [data["epoch"] for _, kind, data in events if kind == "epoch"] == list(range(1, 31))
    assert events[-1][1] == "end"


@pytest.mark.parametrize("seen", [1, 3, 17, 34])
async def test_a_stream_goes_on_after_the_last_event_that_was_seen(
    client: httpx.AsyncClient, network: Json, train: Train, seen: int
) -> None:
    job = await train(network["id"], epochs=30)
    url = f"/v1/jobs/{job['id']}/events"
    whole = parse((await client.get(url)).text)

    rest = parse((await client.get(url, headers={"Last-Event-ID": str(seen)})).text)

    assert rest == whole[seen:]


async def test_when_nothing_will_come_any_more_the_client_is_told_to_stop(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=2)
    url = f"/v1/jobs/{job['id']}/events"
    last = len(parse((await client.get(url)).text))

    answer = await client.get(url, headers={"Last-Event-ID": str(last)})

    assert answer.status_code == 204
    bad = await client.get(url, headers={"Last-Event-ID": "seven"})
    problem(bad, 422, "validation_failed")


async def test_pages_hold_the_same_events(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=30)
    url = f"/v1/jobs/{job['id']}/events"
    stream = parse((await client.get(url)).text)

    pages, following = [], f"{url}?limit=7"
    while following:
        answer = await client.get(following, headers={"Accept": "application/json"})
        page = answer.json()
        pages += page["data"]
        assert page["has_more"] is ("next" in answer.links)
        following = answer.links.get("next", {}).get("url", "")

    assert [(str(e["id"]), e["type"], e["data"]) for e in pages] == stream


async def test_several_jobs_are_followed_on_one_connection(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    jobs = [(await train(network["id"], epochs=3))["id"] for _ in range(2)]

    events = parse((await client.get("/v1/events", params={"job": jobs})).text)

    for job in jobs:
        mine = [data for _, kind, data in events if data["job"] == job and kind == "epoch"]
        assert [data["epoch"] for data in mine] == [1, 2, 3]
    middle = events[len(events) // 2]
    rest = parse(
        (
            await client.get(
                "/v1/events", params={"job": jobs}, headers={"Last-Event-ID": str(middle[0])}
            )
        ).text
    )
    assert rest == events[len(events) // 2 + 1 :]
    problem(await client.get("/v1/events", params={"job": ["job_none"]}), 404, "not_found")


@dataclass
class Log:
    """A job that nobody trains, and what is written down of it."""

    database: SqlDatabase
    event_log: JobEventLog
    following: EventStreams
    job_id: str

    async def runs(self, count: int) -> None:
        """Write down runs of two epochs."""
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
        async for batches in self.following.follow({self.job_id: 0}):
            for batch in batches:
                yield batch


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    folder = prepare(Settings(data_dir=tmp_path / "data"))
    database, event_bus = SqlDatabase(sqlite_url(folder.database)), EventBus()
    following = EventStreams(database, event_bus, asyncio.Event())
    yield Log(database, JobEventLog(event_bus), following, (await seeded_job(database)).id)
    await database.close()
    folder.release()


async def test_who_reads_slower_than_epochs_come_is_told_the_last_of_each_run(log: Log) -> None:
    following = log.follow()
    assert (await anext(following)).type == "state"
    await log.runs(1)
    assert (await anext(following)).data["epoch"] == [1, 2]
    await log.runs(20)
    await log.note()
    await log.runs(MAX_BATCHES + 10)
    last = 2 * (31 + MAX_BATCHES)  # epochs; before them a state, among them a note

    behind = [await anext(following)]
    while behind[-1].last_id < last + 2:
        behind.append(await anext(following))

    assert [batch.type for batch in behind].count("log") == 1
    epochs = [batch for batch in behind if batch.type == "epoch"]
    slow = [batch for batch in epochs if "merged" in batch.data]
    assert slow
    assert all(batch.data["merged"] == [2] and batch.first_id == batch.last_id for batch in slow)
    assert [batch.data["epoch"][-1] for batch in epochs] == [*range(4, last + 1, 2)]
    await log.runs(1)
    assert (await anext(following)).data["epoch"] == [last + 1, last + 2]


async def test_a_crowd_that_replays_reads_the_store_together(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.runs(MAX_BATCHES + 20)
    reads = 0
    after = SqlJobEvents.after

    async def counted(
        self: SqlJobEvents, job_id: str, event: int, limit: int
    ) -> Sequence[EventBatch]:
        nonlocal reads
        reads += 1
        return await after(self, job_id, event, limit)

    async def told(following: AsyncIterator[EventBatch]) -> list[EventBatch]:
        return [await anext(following) for _ in range(MAX_BATCHES + 20)]

    monkeypatch.setattr(SqlJobEvents, "after", counted)
    crowd = await asyncio.gather(*(told(log.follow()) for _ in range(30)))

    assert all(one == crowd[0] for one in crowd)
    assert [batch.first_id for batch in crowd[0][1:]] == [r.last_id + 1 for r in crowd[0][:-1]]
    assert 0 < reads < 20


@given(st.lists(st.binary(max_size=3 * PART_BYTES), max_size=5))
def test_parts_are_the_whole_and_none_is_large(encoded: list[bytes]) -> None:
    parts = list(parts_of(encoded))

    assert b"".join(parts) == b"".join(encoded)
    assert all(0 < len(part) <= PART_BYTES for part in parts)


async def test_a_running_job_is_followed_over_a_socket_without_gap_or_repeat(
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


def unchunked(raw: bytes) -> bytes:
    """Return what has come of a body in chunks."""
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size or b"0", 16)
        body, raw = body + raw[:length], raw[length + 2 :]
    return body


async def test_who_takes_nothing_is_closed_and_goes_on_where_it_was(
    socket_client: httpx.AsyncClient, network: Json, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_protocol, "SEND_SECONDS", 0.3)
    job = await train(network["id"], epochs=5000)
    url, base = f"/v1/jobs/{job['id']}/events", socket_client.base_url
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (base.host, base.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1024)
    writer.write(f"GET {url} HTTP/1.1\r\nHost: {base.host}:{base.port}\r\n\r\n".encode())
    await asyncio.sleep(0.8)
    told = b""
    with contextlib.suppress(ConnectionError):
        while part := await asyncio.wait_for(reader.read(1 << 16), 5):
            told += part
    writer.close()

    assert told.startswith(b"HTTP/1.1 200")
    lines = unchunked(told.partition(b"\r\n\r\n")[2]).split(b"\n")[:-1]  # the last may be cut
    assert b"event: end" not in lines
    seen = [int(line[4:]) for line in lines if line.startswith(b"id: ")]
    assert seen == [*range(1, len(seen) + 1)]
    rest = parse((await socket_client.get(url, headers={"Last-Event-ID": str(seen[-1])})).text)
    assert int(rest[0][0] or 0) == seen[-1] + 1
    assert rest[-1][1] == "end"


async def test_who_takes_a_large_answer_slowly_is_given_all_of_it(
    socket_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [{"type": "dense", "units": 1500}, {"type": "dense", "units": 300}]
    body = {"name": "large", "input_shape": [25], "layers": layers}
    (await socket_client.post("/v1/networks", json=body)).raise_for_status()
    url, base = "/v1/networks/large/weights", socket_client.base_url
    whole = (await socket_client.get(url)).content
    monkeypatch.setattr(guarded_protocol, "SEND_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection(base.host, base.port, limit=1024)
    head = f"GET {url} HTTP/1.1\r\nHost: {base.host}:{base.port}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    begun, told = time.monotonic(), b""

    while part := await asyncio.wait_for(reader.read(1 << 18), 5):
        told += part
        if time.monotonic() - begun < 1.2:
            await asyncio.sleep(0.1)
    writer.close()
    await socket_client.delete("/v1/networks/large")

    assert told.partition(b"\r\n\r\n")[2] == whole


async def test_head_of_a_stream_is_a_head(
    socket_client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": {"epochs": 20_000}}
    job = (await socket_client.post("/v1/jobs", json=body)).json()["id"]

    answer = await socket_client.head(f"/v1/jobs/{job}/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (await socket_client.post(f"/v1/jobs/{job}/cancel")).is_success


def test_a_run_is_merged_from_where_it_was_read() -> None:
    batch = EventBatch(
        "job", 5, 9, "epoch", {"epoch": [1, 2, 3, 4, 5], "train_loss": [5, 4, 3, 2, 1]}
    )

    told = merged(batch, after=6)

    assert told == EventBatch(
        "job", 9, 9, "epoch", {"epoch": [5], "train_loss": [1], "merged": [3]}
    )
    assert [*expanded(told, 6)] == [(9, "epoch", {"epoch": 5, "train_loss": 1, "merged": 3})]
    state = EventBatch("job", 1, 1, "state", {"status": "queued"})
    assert merged(state, 0) is state


async def test_what_was_not_heard_is_asked_of_the_store_again() -> None:
    event_bus = EventBus()
    event_bus.publish(EventBatch("job", 1, 1, "state", {}))
    assert event_bus.after("job", 1) == []
    news = event_bus.next("job")

    event_bus.invalidate()

    await asyncio.wait_for(news, 5)
    assert event_bus.after("job", 1) is None


async def test_an_event_beyond_any_is_after_all_there_are(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=1)

    url = f"/v1/jobs/{job['id']}/events"
    answer = await client.get(url, headers={"Last-Event-ID": "3000000000"})

    assert answer.status_code == 204
