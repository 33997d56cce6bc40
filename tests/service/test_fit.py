"""`fit`: a network built, trained and served in one call."""

import asyncio

import httpx
import pytest

from tests.service.conftest import (
    FOREVER,
    LAYERS,
    Json,
    ended,
    problem,
)


async def test_fit_builds_trains_and_serves_in_one_call(client: httpx.AsyncClient) -> None:
    body = {"inputs": [[0], [1], [2], [3]] * 15, "targets": ["low", "low", "high", "high"] * 15}

    done = await client.post("/v1/fit", json=body, headers={"Prefer": "wait=30"})
    queued = await client.post("/v1/fit", json=body)

    told = done.json()
    assert done.status_code == 201, done.text
    assert told["network"]["labels"] == ["high", "low"]
    assert told["version"]["version"] == 1
    assert told["metrics"]["train_accuracy"] > 0.9
    found = await client.post(told["classify_url"], json={"inputs": [[3]]})
    assert found.json()["predictions"][0]["label"] == "high"
    assert queued.status_code == 202
    assert (await ended(client, queued.json()["id"]))["status"] == "succeeded"


async def test_fit_takes_a_dataset_and_a_network_too(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    wait = {"Prefer": "wait=30"}
    training = {"epochs": 3}

    named = {"dataset": digits, "network": network["id"], "training": training}
    layered = {"dataset": digits, "network": {"layers": LAYERS, "seed": 1}, "training": training}
    numbers = {"inputs": [[0], [1]], "targets": [0.5, 1.5], "network": {"hidden": []}}

    answers = [
        await client.post("/v1/fit", json=b, headers=wait) for b in (named, layered, numbers)
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert answers[0].json()["network"]["id"] == network["id"]
    assert answers[2].json()["classify_url"].endswith("/predict")
    slow = {**named, "training": FOREVER}
    late = await client.post("/v1/fit", json=slow, headers={"Prefer": "wait=0"})
    assert late.status_code == 202
    await client.post(f"/v1/jobs/{late.json()['id']}/cancel")
    await ended(client, late.json()["id"])


async def test_fit_takes_a_network_as_it_is_created_elsewhere(
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
    told = done.json()["network"]
    assert {key: told[key] for key in network} == network
    narrow = {"dataset": digits, "network": {**network, "input_shape": [7]}}
    problem(await client.post("/v1/fit", json=narrow), 422, "validation_failed", "/dataset")
    both = {"dataset": digits, "network": {"layers": LAYERS, "hidden": [3]}}
    told = problem(await client.post("/v1/fit", json=both), 422, "validation_failed", "/network")
    assert told["detail"] == "/network: give either layers, or the units of hidden ones"
    assert len(told["errors"]) == 1


async def test_a_twin_of_a_fit_that_still_runs_is_refused(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"dataset": digits, "network": network["id"], "training": FOREVER}
    key = {"Idempotency-Key": f"twin {network['id']}"}
    first = asyncio.create_task(client.post("/v1/fit?wait=30", json=body, headers=key))
    jobs = f"/v1/jobs?network={network['id']}"
    while not (found := (await client.get(jobs)).json()["data"]):
        await asyncio.sleep(0.01)

    twin = await client.post("/v1/fit?wait=30", json=body, headers=key)

    problem(twin, 409, "idempotency_key_in_use")
    await client.post(f"/v1/jobs/{found[0]['id']}/cancel")
    told = await first
    assert (told.status_code, told.json()["status"]) == (202, "cancelled")
    assert "preference-applied" not in told.headers


async def test_hidden_units_that_cannot_be_are_told_where_they_were(
    client: httpx.AsyncClient, digits: str
) -> None:
    for hidden, place in (([8, 5000], "/network/hidden/1"), ([8] * 20, "/network/hidden")):
        body = {"dataset": digits, "network": {"hidden": hidden}}
        problem(await client.post("/v1/fit", json=body), 422, "validation_failed", place)


async def test_a_fit_is_told_again_when_its_dataset_is_gone(client: httpx.AsyncClient) -> None:
    data = {"inputs": [[0], [1]], "targets": [0.5, 1.5]}
    made = (await client.post("/v1/datasets", json=data)).json()
    key = {"Idempotency-Key": made["id"]}
    first = await client.post("/v1/fit?wait=30", json={"dataset": made["id"]}, headers=key)
    assert (await client.delete(f"/v1/datasets/{made['id']}")).status_code == 204

    again = await client.post("/v1/fit?wait=30", json={"dataset": made["id"]}, headers=key)

    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content


@pytest.mark.parametrize("rate", [1e3, 1e-4])
async def test_fit_gives_its_first_answer_again_whatever_it_was(
    client: httpx.AsyncClient, rate: float
) -> None:
    body = {
        "inputs": [[float(number)] for number in range(40)],
        "targets": [1.5 * number for number in range(40)],
        "training": {"optimizer": {"type": "sgd", "learning_rate": rate}, "epochs": 5},
    }
    headers = {"Prefer": "wait=20", "Idempotency-Key": f"fit at {rate}"}

    first, twin = await asyncio.gather(
        *(client.post("/v1/fit", json=body, headers=headers) for _ in range(2))
    )
    if first.status_code == 409:
        first, twin = twin, first
    again = await client.post("/v1/fit", json=body, headers=headers)

    problem(twin, 409, "idempotency_key_in_use")
    assert again.status_code == first.status_code
    assert again.content == first.content
    assert again.headers["preference-applied"] == first.headers["preference-applied"] == "wait=20"
