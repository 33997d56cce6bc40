"""What is kept of a training while it runs: checkpoints and the version live."""

import asyncio
from dataclasses import replace

import httpx
from fastapi import FastAPI

from core import safetensors as tensors
from tests.service.conftest import (
    FOREVER,
    Json,
    ended,
    problem,
    submit,
    until,
)


async def test_a_checkpoint_can_be_taken_now(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    path = f"/v1/jobs/{job['id']}"
    await until(client, job["id"], "running")

    once = {"Idempotency-Key": "a checkpoint"}
    taken = await client.post(f"{path}/checkpoints", headers=once)
    again = await client.post(f"{path}/checkpoints", headers=once)

    assert taken.status_code == 201
    assert again.json() == taken.json()
    assert again.headers["idempotency-replayed"] == "true"
    listed = (await client.get(f"{path}/checkpoints")).json()["data"]
    assert taken.json() in listed
    await asyncio.sleep(2.5)  # some that nobody asked for come and go meanwhile
    promoted = await client.post(f"{path}/checkpoints/{taken.json()['id']}/promote")
    assert promoted.status_code == 201
    assert promoted.json()["dataset_sha256"]
    assert promoted.json()["metrics"]["train_loss"] > 0
    await client.post(f"{path}/cancel")
    await ended(client, job["id"])
    problem(await client.post(f"{path}/checkpoints"), 409, "invalid_transition")


async def test_the_version_live_answers_while_the_network_trains(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    url = f"{network['links']['self']}/versions/live/predict"
    initial = (await client.post(url, json={"inputs": [[0.5] * 25]})).json()["outputs"]

    outputs = initial
    while outputs == initial:
        await asyncio.sleep(0.02)
        outputs = (await client.post(url, json={"inputs": [[0.5] * 25]})).json()["outputs"]

    await client.post(f"/v1/jobs/{job['id']}/cancel")
    await ended(client, job["id"])
    after = (await client.post(url, json={"inputs": [[0.5] * 25]})).json()
    assert after["outputs"] == initial


async def test_a_job_that_is_cancelled_in_a_long_epoch_keeps_its_best_weights(
    client: httpx.AsyncClient,
) -> None:
    layers = [
        {"type": "dense", "units": 1000, "activation": "relu"},
        {"type": "dense", "units": 800, "activation": "relu"},
        {"type": "dense", "units": 10, "activation": "softmax"},
    ]
    network = (
        await client.post("/v1/networks", json={"input_shape": [25], "layers": layers})
    ).json()
    data = {"builtin": "digits", "samples": 12_000}
    dataset = (await client.post("/v1/datasets", json=data)).json()
    job = await submit(client, network, dataset["id"], **FOREVER, batch_size=2000)
    path = f"/v1/jobs/{job['id']}"
    while (await client.get(path)).json()["progress"]["epoch"] < 1:
        await asyncio.sleep(0.02)

    await client.post(f"{path}/cancel")
    told = await ended(client, job["id"])

    assert told["status"] == "cancelled"
    kept = (await client.get(f"{path}/checkpoints")).json()["data"]
    promoted = await client.post(f"{path}/checkpoints/{kept[0]['id']}/promote")
    assert promoted.status_code == 201


async def paused(client: httpx.AsyncClient, network: Json, dataset: str) -> str:
    """Return the id of a job that was paused in the middle of its training."""
    job: str = (await submit(client, network, dataset, **FOREVER))["id"]
    await until(client, job, "running")
    await client.post(f"/v1/jobs/{job}/pause")
    await until(client, job, "paused")
    return job


async def test_a_job_whose_checkpoints_are_damaged_says_so_and_does_not_begin_anew(
    app: FastAPI, client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await paused(client, network, digits)
    services = app.state.services
    async with services.database.read() as work:
        kept = await work.checkpoints.of(job)
    for checkpoint in kept:
        file = services.blobs.path(checkpoint.blob)
        file.write_bytes(file.read_bytes()[:-1] + b"?")

    promoted = await client.post(f"/v1/jobs/{job}/checkpoints/{kept[0].id}/promote")
    await client.post(f"/v1/jobs/{job}/resume")
    told = await ended(client, job)

    problem(promoted, 409, "checkpoint_corrupt")
    assert told["status"] == "failed"
    assert told["error"]["code"] == "checkpoint_corrupt"
    assert told["result_version"] is None


async def test_a_checkpoint_of_another_version_is_not_taken_for_one_of_ours(
    app: FastAPI, client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await paused(client, network, digits)
    services = app.state.services
    async with services.database.write() as work:
        latest = (await work.checkpoints.of(job))[0]
        arrays, metadata = tensors.decode(await services.blobs.get(latest.blob))
        other = tensors.encode(arrays, {**metadata, "format": "neurond-trainer-1"})
        other_blob = await services.blobs.put(other)
        later = replace(latest, id=f"{latest.id}x", epoch=latest.epoch + 1, blob=other_blob)
        await work.checkpoints.add(later)

    promoted = await client.post(f"/v1/jobs/{job}/checkpoints/{later.id}/promote")
    await client.post(f"/v1/jobs/{job}/resume")
    told = await ended(client, job)

    problem(promoted, 409, "checkpoint_corrupt")
    assert "another version" in promoted.json()["detail"]
    assert told["status"] == "failed"
    assert told["error"]["code"] == "checkpoint_corrupt"
