"""The events of a job, as a stream and as JSON pages."""

import httpx
import pytest

from tests.service.conftest import Json, Train, problem
from tests.service.event_stream import parse


async def test_the_stream_of_a_finished_job_replays_all_events(
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
async def test_a_stream_resumes_after_the_last_event_id(
    client: httpx.AsyncClient, network: Json, train: Train, seen: int
) -> None:
    job = await train(network["id"], epochs=30)
    url = f"/v1/jobs/{job['id']}/events"
    whole = parse((await client.get(url)).text)

    rest = parse((await client.get(url, headers={"Last-Event-ID": str(seen)})).text)

    assert rest == whole[seen:]


async def test_a_stream_after_the_last_event_returns_no_content(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=2)
    url = f"/v1/jobs/{job['id']}/events"
    last = len(parse((await client.get(url)).text))

    response = await client.get(url, headers={"Last-Event-ID": str(last)})

    assert response.status_code == 204
    bad = await client.get(url, headers={"Last-Event-ID": "seven"})
    problem(bad, 422, "validation_failed")


async def test_json_pages_contain_the_same_events_as_the_stream(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=30)
    url = f"/v1/jobs/{job['id']}/events"
    stream = parse((await client.get(url)).text)

    listed, next_url = [], f"{url}?limit=7"
    while next_url:
        response = await client.get(next_url, headers={"Accept": "application/json"})
        body = response.json()
        listed += body["data"]
        assert body["has_more"] is ("next" in response.links)
        next_url = response.links.get("next", {}).get("url", "")

    assert [(str(e["id"]), e["type"], e["data"]) for e in listed] == stream


async def test_one_stream_carries_the_events_of_several_jobs(
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


async def test_an_event_id_beyond_the_last_returns_no_content(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=1)

    url = f"/v1/jobs/{job['id']}/events"
    response = await client.get(url, headers={"Last-Event-ID": "3000000000"})

    assert response.status_code == 204
