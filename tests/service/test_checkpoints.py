"""Checkpoints of a running job, and the `live` version."""

import hashlib
from dataclasses import replace

import httpx
import numpy as np
from fastapi import FastAPI

from core import safetensors
from core.network import Network
from tests.service.conftest import (
    FOREVER,
    Json,
    problem,
    submit,
    wait_for_status,
    wait_until_finished,
)
from tests.waiting import wait_until


async def test_a_requested_checkpoint_is_not_pruned_and_can_be_promoted(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    path = f"/v1/jobs/{job['id']}"
    await wait_for_status(client, job["id"], "running")

    once = {"Idempotency-Key": "a checkpoint"}
    taken = await client.post(f"{path}/checkpoints", headers=once)
    again = await client.post(f"{path}/checkpoints", headers=once)

    assert taken.status_code == 201
    assert again.json() == taken.json()
    assert again.headers["idempotency-replayed"] == "true"
    listed = (await client.get(f"{path}/checkpoints")).json()["data"]
    assert taken.json() in listed

    async def has_two_automatic_ones() -> bool:
        later = (await client.get(f"{path}/checkpoints")).json()["data"]
        return len([entry for entry in later if entry["epoch"] > taken.json()["epoch"]]) >= 2

    await wait_until(has_two_automatic_ones)  # an automatic one would be pruned by then
    promoted = await client.post(f"{path}/checkpoints/{taken.json()['id']}/promote")
    assert promoted.status_code == 201
    assert promoted.json()["dataset_sha256"]
    assert promoted.json()["metrics"]["train_loss"] > 0
    await client.post(f"{path}/cancel")
    await wait_until_finished(client, job["id"])
    problem(await client.post(f"{path}/checkpoints"), 409, "invalid_transition")


async def test_live_predictions_change_during_training_and_revert_after_a_cancel(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    url = f"{network['links']['self']}/versions/live/predict"
    initial = (await client.post(url, json={"inputs": [[0.5] * 25]})).json()["outputs"]

    async def changed() -> bool:
        response = await client.post(url, json={"inputs": [[0.5] * 25]})
        return bool(response.json()["outputs"] != initial)

    await wait_until(changed)

    await client.post(f"/v1/jobs/{job['id']}/cancel")
    await wait_until_finished(client, job["id"])
    after = (await client.post(url, json={"inputs": [[0.5] * 25]})).json()
    assert after["outputs"] == initial


async def test_a_job_cancelled_in_a_long_epoch_has_a_checkpoint_that_can_be_promoted(
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

    async def first_epoch() -> bool:
        return bool((await client.get(path)).json()["progress"]["epoch"] >= 1)

    await wait_until(first_epoch)

    await client.post(f"{path}/cancel")
    finished = await wait_until_finished(client, job["id"])

    assert finished["status"] == "cancelled"
    checkpoints = (await client.get(f"{path}/checkpoints")).json()["data"]
    promoted = await client.post(f"{path}/checkpoints/{checkpoints[0]['id']}/promote")
    assert promoted.status_code == 201


async def create_paused_job(client: httpx.AsyncClient, network: Json, dataset: str) -> str:
    """Return the id of a job that is paused during training."""
    job: str = (await submit(client, network, dataset, **FOREVER))["id"]
    await wait_for_status(client, job, "running")
    await client.post(f"/v1/jobs/{job}/pause")
    await wait_for_status(client, job, "paused")
    return job


async def test_a_job_with_corrupt_checkpoints_fails_instead_of_starting_over(
    app: FastAPI, client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await create_paused_job(client, network, digits)
    services = app.state.services
    async with services.database.read() as work:
        checkpoints = await work.checkpoints.of(job)
    for checkpoint in checkpoints:
        file = services.blobs.path(checkpoint.blob)
        file.write_bytes(file.read_bytes()[:-1] + b"?")

    promoted = await client.post(f"/v1/jobs/{job}/checkpoints/{checkpoints[0].id}/promote")
    await client.post(f"/v1/jobs/{job}/resume")
    finished = await wait_until_finished(client, job)

    problem(promoted, 409, "checkpoint_corrupt")
    assert finished["status"] == "failed"
    assert finished["error"]["code"] == "checkpoint_corrupt"
    assert finished["result_version"] is None


async def test_a_checkpoint_with_another_format_version_is_rejected(
    app: FastAPI, client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await create_paused_job(client, network, digits)
    services = app.state.services
    async with services.database.write() as work:
        latest = (await work.checkpoints.of(job))[0]
        arrays, metadata = safetensors.decode(await services.blobs.get(latest.blob))
        incompatible = safetensors.encode(arrays, {**metadata, "format": "neurond-trainer-1"})
        incompatible_blob = await services.blobs.put(incompatible)
        later = replace(latest, id=f"{latest.id}x", epoch=latest.epoch + 1, blob=incompatible_blob)
        await work.checkpoints.add(later)

    promoted = await client.post(f"/v1/jobs/{job}/checkpoints/{later.id}/promote")
    await client.post(f"/v1/jobs/{job}/resume")
    finished = await wait_until_finished(client, job)

    problem(promoted, 409, "checkpoint_corrupt")
    assert "supported version" in promoted.json()["detail"]
    assert finished["status"] == "failed"
    assert finished["error"]["code"] == "checkpoint_corrupt"


def random_labels() -> Json:
    """Return rows whose targets do not depend on the inputs."""
    random = np.random.default_rng(5)
    return {
        "inputs": random.normal(size=(80, 25)).tolist(),
        "targets": [str(label) for label in random.integers(0, 10, 80)],
    }


ARCHITECTURE = ("input_shape", "layers", "dtype")


async def test_a_promoted_checkpoint_has_its_own_weights_and_metrics(
    app: FastAPI, client: httpx.AsyncClient, network: Json
) -> None:
    """Training that gets worse after its best epoch, so that the two differ."""
    dataset = (await client.post("/v1/datasets", json=random_labels())).json()["id"]
    job = (await submit(client, network, dataset, **FOREVER))["id"]
    path = f"/v1/jobs/{job}"

    async def is_past_its_best() -> bool:
        progress = (await client.get(path)).json()["progress"]
        return bool(progress["epoch"] > (progress["best_epoch"] or 0) + 50)

    await wait_until(is_past_its_best)
    await client.post(f"{path}/pause")
    await wait_for_status(client, job, "paused")
    listed = (await client.get(f"{path}/checkpoints")).json()["data"]
    history = (await client.get(f"{path}/history?max_points=100000")).json()

    best, newest = listed[0], listed[1]
    assert best["id"] == "best"
    assert best["epoch"] == newest["best_epoch"] < newest["epoch"]
    weights = {}
    for entry in (best, newest):
        promoted = await client.post(f"{path}/checkpoints/{entry['id']}/promote")
        assert promoted.status_code == 201, promoted.text
        metrics, at = promoted.json()["metrics"], history["epoch"].index(entry["epoch"])
        names = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
        assert [metrics[name] for name in names] == [history[name][at] for name in names]
        assert entry["validation_loss"] == metrics["validation_loss"]
        weights[entry["id"]] = promoted.json()["weights_sha256"]
    async with app.state.services.database.read() as work:
        stored = await work.checkpoints.get(job, newest["id"])
    arrays, _ = safetensors.decode(await app.state.services.blobs.get(stored.blob))
    for entry, array in (("best", "best_parameters"), (newest["id"], "parameters")):
        expected = Network.from_config({key: network[key] for key in ARCHITECTURE})
        expected.parameters[:] = arrays[array]
        assert weights[entry] == hashlib.sha256(expected.to_bytes()).hexdigest()
    await client.post(f"{path}/cancel")


async def test_a_checkpoint_of_another_split_is_refused(
    app: FastAPI, client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await create_paused_job(client, network, digits)
    async with app.state.services.database.write() as work:
        stored = await work.jobs.get(job)
        await work.jobs.update(stored, split_version=0)

    await client.post(f"/v1/jobs/{job}/resume")
    finished = await wait_until_finished(client, job)

    assert (finished["status"], finished["error"]["code"]) == ("failed", "split_changed")


async def test_jobs_and_checkpoints_record_the_version_of_their_split(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await create_paused_job(client, network, digits)

    assert (await client.get(f"/v1/jobs/{job}")).json()["split_version"] == 1
    listed = (await client.get(f"/v1/jobs/{job}/checkpoints")).json()["data"]
    assert {entry["split_version"] for entry in listed} == {1}
    await client.post(f"/v1/jobs/{job}/cancel")
