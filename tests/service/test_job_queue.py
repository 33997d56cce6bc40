"""Who waits, who runs, who is stopped: the turns of jobs over HTTP."""

import asyncio

import httpx

from tests.service.conftest import (
    FOREVER,
    LAYERS,
    Json,
    Train,
    ended,
    problem,
    submit,
    until,
)


async def test_pause_resume_and_cancel(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    path = f"/v1/jobs/{job['id']}"
    running = await until(client, job["id"], "running")
    assert running["allowed_actions"] == ["pause", "cancel"]

    assert (await client.post(f"{path}/pause")).json()["status"] in {"pausing", "paused"}
    paused = await until(client, job["id"], "paused")
    assert paused["allowed_actions"] == ["resume", "cancel"]
    assert (await client.post(f"{path}/pause")).status_code == 200
    assert (await client.post(f"{path}/resume")).json()["status"] in {"queued", "starting"}
    await until(client, job["id"], "running")
    assert (await client.post(f"{path}/resume")).status_code == 200
    problem(await client.delete(path), 409, "invalid_transition")
    problem(await client.delete(network["links"]["self"]), 409, "network_in_use")
    problem(await client.delete(f"/v1/datasets/{digits}"), 409, "dataset_in_use")
    assert (await client.post(f"{path}/cancel")).json()["status"] in {"cancelling", "cancelled"}
    cancelled = await ended(client, job["id"])

    assert (cancelled["status"], cancelled["stop_reason"]) == ("cancelled", "user")
    assert cancelled["result_version"] is None
    assert (await client.post(f"{path}/cancel")).status_code == 200
    for action in ("pause", "resume"):
        refused = problem(await client.post(f"{path}/{action}"), 409, "invalid_transition")
        assert (refused["current_status"], refused["allowed_actions"]) == ("cancelled", [])
    kept = (await client.get(f"{path}/checkpoints")).json()["data"]
    assert kept
    promoted = await client.post(f"{path}/checkpoints/{kept[0]['id']}/promote")
    assert (promoted.status_code, promoted.json()["version"]) == (201, 1)
    missing = await client.post(f"{path}/checkpoints/ckpt_none/promote")
    problem(missing, 404, "not_found")
    assert (await client.delete(path)).status_code == 204
    problem(await client.get(path), 404, "not_found")


async def test_a_queued_job_waits_its_turn_and_can_be_cancelled(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    busy = [await submit(client, network, digits, **FOREVER) for _ in range(2)]
    waiting = [await submit(client, network, digits, epochs=2) for _ in range(2)]
    for job in busy:
        await until(client, job["id"], "running")

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
        assert (await ended(client, job["id"]))["status"] == "cancelled"


async def test_many_are_cancelled_in_one_call(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    other = (await client.post("/v1/networks", json={"input_shape": [25], "layers": LAYERS})).json()
    mine = [await submit(client, network, digits, **FOREVER) for _ in range(60)]
    theirs = await submit(client, other, digits, **FOREVER)
    paused = (await client.post(f"/v1/jobs/{mine[-1]['id']}/pause")).json()
    await until(client, mine[0]["id"], "running")
    of_network = {"network": network["id"]}

    queued = await client.post("/v1/jobs/cancel", params={**of_network, "status": "queued"})
    states = {job["id"]: job["status"] for job in await every(client, network)}
    rest = await client.post("/v1/jobs/cancel", params=of_network)

    assert paused["status"] == "paused"
    assert queued.status_code == 200
    assert 50 < queued.json()["cancelled"] < 60
    assert states[mine[0]["id"]] == "running"
    assert states[mine[-1]["id"]] == "paused"
    assert rest.json()["cancelled"] == 60 - queued.json()["cancelled"]
    for job in (mine[0], mine[-1]):
        assert (await ended(client, job["id"]))["status"] == "cancelled"
    assert not (await client.get(f"/v1/jobs/{theirs['id']}")).json()["terminal"]
    await client.post(f"/v1/jobs/{theirs['id']}/cancel")
    ended_already = await client.post("/v1/jobs/cancel", params={"status": "succeeded"})
    problem(ended_already, 422, "validation_failed")
    problem(await client.post("/v1/jobs/cancel?network=none"), 404, "not_found")


async def every(client: httpx.AsyncClient, network: Json) -> list[Json]:
    """Return all jobs of a network."""
    wanted = {"network": network["id"], "limit": 500}
    data: list[Json] = (await client.get("/v1/jobs", params=wanted)).json()["data"]
    return data


async def test_equal_work_can_be_refused_returned_or_replaced(
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
    # One that is ending is no equal work any more, and each replacement replaces all before it.
    replacing = [
        (await client.post("/v1/jobs", json={**body, "on_duplicate": "replace"})).json()
        for _ in range(2)
    ]
    for job in (first, replaced.json(), replacing[0]):
        assert (await ended(client, job["id"]))["status"] == "cancelled"
    await client.post(f"/v1/jobs/{replacing[1]['id']}/pause")
    await until(client, replacing[1]["id"], "paused")
    again = await client.post("/v1/jobs", json={**body, "on_duplicate": "return"})
    assert (again.status_code, again.json()["id"] == replacing[1]["id"]) == (202, False)
    for job in (replacing[1], again.json()):
        await client.post(f"/v1/jobs/{job['id']}/cancel")
        await ended(client, job["id"])


async def test_waiting_answers_at_the_next_change(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    await until(client, job["id"], "running")
    waiting = asyncio.create_task(
        client.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})
    )
    await asyncio.sleep(0.1)

    await client.post(f"/v1/jobs/{job['id']}/cancel")

    answer = await asyncio.wait_for(waiting, 5)
    assert answer.json()["status"] in {"cancelling", "cancelled"}
    assert answer.headers["preference-applied"] == "wait=30"
    late = await client.get(f"/v1/jobs/{job['id']}?wait=0.05")
    assert late.status_code == 200
    assert (await ended(client, job["id"]))["status"] == "cancelled"
    assert (await client.get("/v1/jobs/latest")).status_code == 200


async def test_a_queued_job_tells_about_when_it_begins(
    client: httpx.AsyncClient, network: Json, digits: str, train: Train
) -> None:
    await train(network["id"], epochs=2)
    busy = [await submit(client, network, digits, **FOREVER) for _ in range(2)]
    for job in busy:
        await until(client, job["id"], "running")
    await asyncio.sleep(0.5)

    waiting = await submit(client, network, digits, epochs=2)

    async def left() -> list[float]:
        answers = [await client.get(f"/v1/jobs/{job['id']}") for job in busy]
        return [answer.json()["progress"]["eta_seconds"] for answer in answers]

    # The pace of a busy machine swings: what was told lies among what was left before and after.
    before = await left()
    told = (await client.get(f"/v1/jobs/{waiting['id']}")).json()
    etas = before + await left()
    assert 0.5 * min(etas) < told["queue_seconds"] < 2 * max(etas)
    for job in (*busy, waiting):
        await client.post(f"/v1/jobs/{job['id']}/cancel")
        await ended(client, job["id"])
