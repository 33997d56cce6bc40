"""The job queue over HTTP: pause, resume, cancel, duplicates and waiting."""

import asyncio

import httpx
import numpy as np

from tests.service.conftest import (
    FOREVER,
    LAYERS,
    Json,
    Train,
    problem,
    submit,
    wait_for_status,
    wait_until_finished,
)
from tests.waiting import wait_until


async def test_a_job_can_be_paused_resumed_and_cancelled(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    path = f"/v1/jobs/{job['id']}"
    running = await wait_for_status(client, job["id"], "running")
    assert running["allowed_actions"] == ["pause", "cancel"]

    assert (await client.post(f"{path}/pause")).json()["status"] in {"pausing", "paused"}
    paused = await wait_for_status(client, job["id"], "paused")
    assert paused["allowed_actions"] == ["resume", "cancel"]
    assert (await client.post(f"{path}/pause")).status_code == 200
    assert (await client.post(f"{path}/resume")).json()["status"] in {"queued", "starting"}
    await wait_for_status(client, job["id"], "running")
    assert (await client.post(f"{path}/resume")).status_code == 200
    problem(await client.delete(path), 409, "invalid_transition")
    problem(await client.delete(network["links"]["self"]), 409, "network_in_use")
    problem(await client.delete(f"/v1/datasets/{digits}"), 409, "dataset_in_use")
    assert (await client.post(f"{path}/cancel")).json()["status"] in {"cancelling", "cancelled"}
    cancelled = await wait_until_finished(client, job["id"])

    assert (cancelled["status"], cancelled["stop_reason"]) == ("cancelled", "user")
    assert cancelled["result_version"] is None
    assert (await client.post(f"{path}/cancel")).status_code == 200
    for action in ("pause", "resume"):
        refused = problem(await client.post(f"{path}/{action}"), 409, "invalid_transition")
        assert (refused["current_status"], refused["allowed_actions"]) == ("cancelled", [])
    checkpoints = (await client.get(f"{path}/checkpoints")).json()["data"]
    assert checkpoints
    promoted = await client.post(f"{path}/checkpoints/{checkpoints[0]['id']}/promote")
    assert (promoted.status_code, promoted.json()["version"]) == (201, 1)
    missing = await client.post(f"{path}/checkpoints/ckpt_none/promote")
    problem(missing, 404, "not_found")
    assert (await client.delete(path)).status_code == 204
    problem(await client.get(path), 404, "not_found")


async def test_queued_jobs_have_positions_and_can_be_paused_or_cancelled(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    busy = [await submit(client, network, digits, **FOREVER) for _ in range(2)]
    waiting = [await submit(client, network, digits, epochs=2) for _ in range(2)]
    for job in busy:
        await wait_for_status(client, job["id"], "running")

    positions = [(await client.get(f"/v1/jobs/{job['id']}")).json() for job in waiting]
    paused = (await client.post(f"/v1/jobs/{waiting[0]['id']}/pause")).json()
    cancelled = (await client.post(f"/v1/jobs/{waiting[1]['id']}/cancel")).json()

    assert [job["queue_position"] for job in positions] == [0, 1]
    assert paused["status"] == "paused"
    assert (cancelled["status"], cancelled["stop_reason"]) == ("cancelled", "user")
    listed = (await client.get("/v1/jobs", params={"status": "running"})).json()["data"]
    assert {job["id"] for job in busy} <= {job["id"] for job in listed}
    mine = (await client.get("/v1/jobs", params={"network": network["id"]})).json()["data"]
    assert [job["id"] for job in mine] == [job["id"] for job in reversed(busy + waiting)]
    for job in [*busy, waiting[0]]:
        await client.post(f"/v1/jobs/{job['id']}/cancel")
        assert (await wait_until_finished(client, job["id"]))["status"] == "cancelled"


async def test_jobs_of_a_network_are_cancelled_in_one_call(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    other = (await client.post("/v1/networks", json={"input_shape": [25], "layers": LAYERS})).json()
    own = [await submit(client, network, digits, **FOREVER) for _ in range(60)]
    foreign = await submit(client, other, digits, **FOREVER)
    paused = (await client.post(f"/v1/jobs/{own[-1]['id']}/pause")).json()
    await wait_for_status(client, own[0]["id"], "running")
    of_network = {"network": network["id"]}

    queued = await client.post("/v1/jobs/cancel", params={**of_network, "status": "queued"})
    states = {job["id"]: job["status"] for job in await all_jobs(client, network)}
    rest = await client.post("/v1/jobs/cancel", params=of_network)

    assert paused["status"] == "paused"
    assert queued.status_code == 200
    assert 50 < queued.json()["cancelled"] < 60
    assert states[own[0]["id"]] == "running"
    assert states[own[-1]["id"]] == "paused"
    assert rest.json()["cancelled"] == 60 - queued.json()["cancelled"]
    for job in (own[0], own[-1]):
        assert (await wait_until_finished(client, job["id"]))["status"] == "cancelled"
    assert not (await client.get(f"/v1/jobs/{foreign['id']}")).json()["terminal"]
    await client.post(f"/v1/jobs/{foreign['id']}/cancel")
    terminal = await client.post("/v1/jobs/cancel", params={"status": "succeeded"})
    problem(terminal, 422, "validation_failed")
    problem(await client.post("/v1/jobs/cancel?network=none"), 404, "not_found")


async def all_jobs(client: httpx.AsyncClient, network: Json) -> list[Json]:
    """Return all jobs of a network."""
    query = {"network": network["id"], "limit": 500}
    data: list[Json] = (await client.get("/v1/jobs", params=query)).json()["data"]
    return data


async def test_a_duplicate_job_can_be_rejected_returned_or_replaced(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": FOREVER}
    first = (await client.post("/v1/jobs", json=body)).json()

    rejected = await client.post("/v1/jobs", json={**body, "on_duplicate": "reject"})
    returned = await client.post("/v1/jobs", json={**body, "on_duplicate": "return"})
    replaced = await client.post("/v1/jobs", json={**body, "on_duplicate": "replace"})

    assert problem(rejected, 409, "duplicate_job")["job"] == first["id"]
    assert (returned.status_code, returned.json()["id"]) == (200, first["id"])
    assert replaced.status_code == 202
    # A job that is being cancelled is not a duplicate. Each replacement replaces the one before.
    replacing = [
        (await client.post("/v1/jobs", json={**body, "on_duplicate": "replace"})).json()
        for _ in range(2)
    ]
    for job in (first, replaced.json(), replacing[0]):
        assert (await wait_until_finished(client, job["id"]))["status"] == "cancelled"
    await client.post(f"/v1/jobs/{replacing[1]['id']}/pause")
    await wait_for_status(client, replacing[1]["id"], "paused")
    again = await client.post("/v1/jobs", json={**body, "on_duplicate": "return"})
    assert (again.status_code, again.json()["id"] == replacing[1]["id"]) == (202, False)
    for job in (replacing[1], again.json()):
        await client.post(f"/v1/jobs/{job['id']}/cancel")
        await wait_until_finished(client, job["id"])


async def test_a_waiting_request_returns_at_the_next_status_change(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    await wait_for_status(client, job["id"], "running")
    waiting = asyncio.create_task(
        client.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})
    )
    await asyncio.sleep(0.1)  # gives the request time to start waiting

    await client.post(f"/v1/jobs/{job['id']}/cancel")

    response = await asyncio.wait_for(waiting, 5)
    assert response.json()["status"] in {"cancelling", "cancelled"}
    assert response.headers["preference-applied"] == "wait=30"
    late = await client.get(f"/v1/jobs/{job['id']}?wait=0.05")
    assert late.status_code == 200
    assert (await wait_until_finished(client, job["id"]))["status"] == "cancelled"
    assert (await client.get("/v1/jobs/latest")).status_code == 200


async def test_a_queued_job_estimates_when_it_starts(
    client: httpx.AsyncClient, network: Json, digits: str, train: Train
) -> None:
    await train(network["id"], epochs=2)
    busy = [await submit(client, network, digits, **FOREVER) for _ in range(2)]
    for job in busy:
        await wait_for_status(client, job["id"], "running")

    async def have_measured_pace() -> bool:
        bodies = [(await client.get(f"/v1/jobs/{job['id']}")).json() for job in busy]
        return all(body["progress"]["elapsed_seconds"] > 0.5 for body in bodies)

    await wait_until(have_measured_pace)
    waiting = await submit(client, network, digits, epochs=2)

    async def left() -> list[float]:
        responses = [await client.get(f"/v1/jobs/{job['id']}") for job in busy]
        return [response.json()["progress"]["eta_seconds"] for response in responses]

    # The pace of a busy machine varies: compare with the estimates before and after.
    before = await left()
    queued = (await client.get(f"/v1/jobs/{waiting['id']}")).json()
    etas = before + await left()
    assert 0.5 * min(etas) < queued["queue_seconds"] < 2 * max(etas)
    for job in (*busy, waiting):
        await client.post(f"/v1/jobs/{job['id']}/cancel")
        await wait_until_finished(client, job["id"])


async def test_queued_jobs_on_one_network_continue_each_others_training(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    """Version 4 once had the parent 2, and lacked what version 3 had learned."""
    jobs = [await submit(client, network, digits, epochs=3) for _ in range(4)]
    finished = [await wait_until_finished(client, job["id"]) for job in jobs]

    versions = (await client.get(f"{network['links']['self']}/versions")).json()["data"]
    parents = {version["version"]: version["parent"] for version in versions}
    bases = {job["result_version"]: job["base_version"] for job in finished}
    assert {number: parents[number] for number in bases} == bases
    running_together = 2  # workers of the test server
    assert all(number - base <= running_together for number, base in bases.items())


async def test_training_again_never_moves_a_row_from_training_to_validation(
    client: httpx.AsyncClient,
) -> None:
    """The labels are random, so that only rows that were trained on can be predicted."""
    random = np.random.default_rng(11)
    body = {
        "inputs": random.normal(size=(300, 10)).tolist(),
        "targets": [str(label) for label in random.integers(0, 2, 300)],
    }
    dataset = (await client.post("/v1/datasets", json=body)).json()["id"]
    layers = [
        {"type": "dense", "units": 64, "activation": "relu"},
        {"type": "dense", "units": 2, "activation": "softmax"},
    ]
    created = await client.post("/v1/networks", json={"input_shape": [10], "layers": layers})

    reached = {}
    for seed in range(6):
        settings = {"epochs": 60, "seed": seed, "early_stopping": None}
        job = await submit(client, created.json(), dataset, **settings)
        reached = (await wait_until_finished(client, job["id"]))["progress"]

    assert reached["train_accuracy"] > 0.95
    assert reached["validation_accuracy"] < 0.7
