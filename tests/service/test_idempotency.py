"""Idempotency keys: repeated requests create one resource."""

import asyncio

import httpx
import pytest

from tests.service.conftest import LAYERS, Json, problem

NETWORK = {"input_shape": [25], "layers": LAYERS}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/networks", NETWORK),
        ("/v1/datasets", {"builtin": "xor"}),
        ("/v1/networks/import", {"layers": [{"type": "Dense", "weights": [[1.0]], "biases": [0.0],
                                             "activation": "sigmoid"}]}),
        ("/v1/fit", {"inputs": [[0], [1]], "targets": ["a", "b"], "training": {"epochs": 1}}),
    ],
)  # fmt: skip
async def test_a_repeated_key_replays_the_first_response(
    client: httpx.AsyncClient, path: str, body: Json
) -> None:
    headers = {"Idempotency-Key": f'"key of {path}"'}

    first = await client.post(path, json=body, headers=headers)
    again = await client.post(path, json=body, headers=headers)
    changed = {**body, "name": "another"} if "layers" not in body else {**body, "version": 1}
    different = await client.post(path, json=changed, headers=headers)

    assert again.status_code == first.status_code
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers.get("location") == first.headers.get("location")
    problem(different, 422, "idempotency_key_reused")


async def test_ten_concurrent_requests_with_one_key_create_one_network(
    client: httpx.AsyncClient,
) -> None:
    headers = {"Idempotency-Key": "ten"}

    responses = await asyncio.gather(
        *(client.post("/v1/networks", json=NETWORK, headers=headers) for _ in range(10))
    )

    created = {response.json()["id"] for response in responses if response.status_code == 201}
    assert len(created) == 1
    assert {response.status_code for response in responses} <= {201, 409}
    for response in responses:
        if response.status_code == 409:
            problem(response, 409, "idempotency_key_in_use")


async def test_a_key_of_an_upload_is_bound_to_its_content(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "csv", "content-type": "text/csv"}

    first = await client.post("/v1/datasets", content="a,t\n1,x\n2,y\n", headers=headers)
    again = await client.post("/v1/datasets", content="a,t\n1,x\n2,y\n", headers=headers)
    different = await client.post("/v1/datasets", content="a,t\n1,x\n3,y\n", headers=headers)

    assert again.json() == first.json()
    problem(different, 422, "idempotency_key_reused")


async def test_a_rejected_request_can_be_repeated_with_its_key(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "refused"}

    problem(await client.post("/v1/networks", json={}, headers=headers), 422, "validation_failed")

    assert (await client.post("/v1/networks", json=NETWORK, headers=headers)).status_code == 201
    empty = await client.post("/v1/networks", json=NETWORK, headers={"Idempotency-Key": '""'})
    problem(empty, 422, "validation_failed")
