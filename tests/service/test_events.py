"""A job's events: one log, as a stream and as pages."""

import json

import httpx
import pytest

from tests.service.conftest import Json, Train, problem


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
