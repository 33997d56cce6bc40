"""Frames of the decision boundary of a job."""

import httpx

from tests.service.conftest import (
    LAYERS,
    Json,
    problem,
    wait_until_finished,
)


async def test_boundary_frames_are_logged_as_events(client: httpx.AsyncClient) -> None:
    layers = [
        {"type": "dense", "units": 3, "activation": "tanh"},
        {"type": "dense", "units": 1, "activation": "sigmoid"},
    ]
    name = (await client.post("/v1/networks", json={"input_shape": [2], "layers": layers})).json()
    data = (await client.post("/v1/datasets", json={"builtin": "moons", "samples": 60})).json()
    boundary = {"resolution": 8, "x": [-2, 3], "y": [-2, 2]}
    training = {"epochs": 200, "boundary": boundary}
    body = {"network": name["id"], "dataset": data["id"], "training": training}

    job = (await client.post("/v1/jobs", json=body)).json()
    assert (await wait_until_finished(client, job["id"]))["status"] == "succeeded"
    frames: list[Json] = []
    after, has_more = "0", True
    while has_more:
        headers = {"Accept": "application/json", "Last-Event-ID": after}
        page = (await client.get(f"/v1/jobs/{job['id']}/events?limit=500", headers=headers)).json()
        frames += [event["data"] for event in page["data"] if event["type"] == "boundary"]
        has_more = page["has_more"]
        after = str(page["data"][-1]["id"])

    assert [frame["epoch"] for frame in frames] == [1, *range(2, 201, 2)]
    assert [len(layer) for layer in frames[0]["layers"]] == [3, 1]
    wide = (await client.post("/v1/networks", json={"input_shape": [25], "layers": LAYERS})).json()
    response = await client.post("/v1/jobs", json={**body, "network": wide["id"]})
    problem(response, 422, "validation_failed")


async def test_boundary_frames_that_are_too_large_are_rejected(client: httpx.AsyncClient) -> None:
    layers = [{"type": "dense", "units": 600, "activation": "tanh"}, *LAYERS]
    network = await client.post("/v1/networks", json={"input_shape": [2], "layers": layers})
    data = {"builtin": "moons", "samples": 20}
    dataset = (await client.post("/v1/datasets", json=data)).json()
    body = {"network": network.json()["id"], "dataset": dataset["id"]}

    response = await client.post("/v1/jobs", json={**body, "training": {"boundary": {}}})

    problem(response, 422, "validation_failed", "/training/boundary/resolution")
