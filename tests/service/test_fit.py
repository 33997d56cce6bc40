"""`POST /v1/fit` creates, trains and serves a network in one call."""

import asyncio

import httpx
import pytest

from tests.service.conftest import FOREVER, LAYERS, Json, problem, wait_until_finished
from tests.waiting import wait_until


async def test_fit_builds_trains_and_serves_in_one_call(client: httpx.AsyncClient) -> None:
    body = {"inputs": [[0], [1], [2], [3]] * 15, "targets": ["low", "low", "high", "high"] * 15}

    done = await client.post("/v1/fit", json=body, headers={"Prefer": "wait=30"})
    queued = await client.post("/v1/fit", json=body)

    fitted = done.json()
    assert done.status_code == 201, done.text
    assert fitted["network"]["labels"] == ["high", "low"]
    assert fitted["version"]["version"] == 1
    assert fitted["metrics"]["train_accuracy"] > 0.9
    classified = await client.post(fitted["classify_url"], json={"inputs": [[3]]})
    assert classified.json()["predictions"][0]["label"] == "high"
    assert queued.status_code == 202
    assert (await wait_until_finished(client, queued.json()["id"]))["status"] == "succeeded"


async def test_fit_accepts_a_dataset_name_and_a_network(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    wait = {"Prefer": "wait=30"}
    training = {"epochs": 3}

    named = {"dataset": digits, "network": network["id"], "training": training}
    layered = {"dataset": digits, "network": {"layers": LAYERS, "seed": 1}, "training": training}
    numbers = {"inputs": [[0], [1]], "targets": [0.5, 1.5], "network": {"hidden": []}}

    responses = [
        await client.post("/v1/fit", json=b, headers=wait) for b in (named, layered, numbers)
    ]
    assert [response.status_code for response in responses] == [201, 201, 201]
    assert responses[0].json()["network"]["id"] == network["id"]
    assert responses[2].json()["classify_url"].endswith("/predict")
    slow = {**named, "training": FOREVER}
    late = await client.post("/v1/fit", json=slow, headers={"Prefer": "wait=0"})
    assert late.status_code == 202
    await client.post(f"/v1/jobs/{late.json()['id']}/cancel")
    await wait_until_finished(client, late.json()["id"])


async def test_fit_accepts_the_fields_of_a_network_creation(
    client: httpx.AsyncClient, digits: str
) -> None:
    network = {
        "input_shape": [25],
        "layers": LAYERS,
        "labels": [str(n) for n in range(10)],
        "metadata": {"team": "a"},
        "dtype": "float64",
        "seed": 3,
    }
    training = {"epochs": 2, "shuffle": None}

    done = await client.post(
        "/v1/fit?wait=30", json={"dataset": digits, "network": network, "training": training}
    )
    plain = await client.post(
        "/v1/fit?wait=30", json={"inputs": [[0], [1]], "targets": [0.5, 1], "training": None}
    )

    assert done.status_code == plain.status_code == 201, done.text
    created = done.json()["network"]
    assert {key: created[key] for key in network} == network
    narrow = {"dataset": digits, "network": {**network, "input_shape": [7]}}
    problem(await client.post("/v1/fit", json=narrow), 422, "validation_failed", "/dataset")
    both = {"dataset": digits, "network": {"layers": LAYERS, "hidden": [3]}}
    invalid = problem(await client.post("/v1/fit", json=both), 422, "validation_failed", "/network")
    assert invalid["detail"] == "/network: expected either layers or hidden, got both"
    assert len(invalid["errors"]) == 1


async def test_a_duplicate_of_a_running_fit_is_rejected(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"dataset": digits, "network": network["id"], "training": FOREVER}
    key = {"Idempotency-Key": f"duplicate {network['id']}"}
    first = asyncio.create_task(client.post("/v1/fit?wait=30", json=body, headers=key))
    jobs = f"/v1/jobs?network={network['id']}"

    async def listed() -> list[Json]:
        data: list[Json] = (await client.get(jobs)).json()["data"]
        return data

    [job] = await wait_until(listed)

    duplicate = await client.post("/v1/fit?wait=30", json=body, headers=key)

    problem(duplicate, 409, "idempotency_key_in_use")
    await client.post(f"/v1/jobs/{job['id']}/cancel")
    response = await first
    assert (response.status_code, response.json()["status"]) == (202, "cancelled")
    assert "preference-applied" not in response.headers


async def test_invalid_hidden_units_are_rejected_with_a_pointer(
    client: httpx.AsyncClient, digits: str
) -> None:
    for hidden, pointer in (([8, 5000], "/network/hidden/1"), ([8] * 20, "/network/hidden")):
        body = {"dataset": digits, "network": {"hidden": hidden}}
        problem(await client.post("/v1/fit", json=body), 422, "validation_failed", pointer)


async def test_a_fit_is_replayed_after_its_dataset_was_deleted(client: httpx.AsyncClient) -> None:
    data = {"inputs": [[0], [1]], "targets": [0.5, 1.5]}
    dataset = (await client.post("/v1/datasets", json=data)).json()
    key = {"Idempotency-Key": dataset["id"]}
    first = await client.post("/v1/fit?wait=30", json={"dataset": dataset["id"]}, headers=key)
    assert (await client.delete(f"/v1/datasets/{dataset['id']}")).status_code == 204

    again = await client.post("/v1/fit?wait=30", json={"dataset": dataset["id"]}, headers=key)

    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content


@pytest.mark.parametrize("rate", [1e3, 1e-4])
async def test_fit_replays_its_first_response(client: httpx.AsyncClient, rate: float) -> None:
    body = {
        "inputs": [[float(number)] for number in range(40)],
        "targets": [1.5 * number for number in range(40)],
        "training": {"optimizer": {"type": "sgd", "learning_rate": rate}, "epochs": 5},
    }
    headers = {"Prefer": "wait=20", "Idempotency-Key": f"fit at {rate}"}

    first, duplicate = await asyncio.gather(
        *(client.post("/v1/fit", json=body, headers=headers) for _ in range(2))
    )
    if first.status_code == 409:
        first, duplicate = duplicate, first
    again = await client.post("/v1/fit", json=body, headers=headers)

    problem(duplicate, 409, "idempotency_key_in_use")
    assert again.status_code == first.status_code
    assert again.content == first.content
    assert again.headers["preference-applied"] == first.headers["preference-applied"] == "wait=20"
