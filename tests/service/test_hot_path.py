"""The hot path answers what the ordinary road would, byte for byte."""

import json

import httpx
import pytest

from tests.service.conftest import Json, problem

ROW = [0.5] * 25
ORDINARY = {"X-Request-ID": "by-the-ordinary-road"}


@pytest.mark.parametrize("verb", ["classify", "predict"])
@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [ROW]},
        {"inputs": [ROW, [0] * 25], "top_k": 3},
        {"inputs": [[1e-300] * 25]},
        {"top_k": None, "inputs": [ROW] * 64},
    ],
)
async def test_both_roads_give_the_same_bytes(
    client: httpx.AsyncClient, network: Json, verb: str, body: Json
) -> None:
    url = f"{network['links']['self']}/{verb}"
    await client.post(url, json=body)  # loads the version

    hot = await client.post(url, json=body)
    ordinary = await client.post(url, json=body, headers=ORDINARY)

    assert hot.status_code == ordinary.status_code == 200
    assert hot.content == ordinary.content
    assert hot.headers["content-type"] == ordinary.headers["content-type"]
    assert hot.headers["x-request-id"] != ordinary.headers["x-request-id"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b'{"inputs": [[1]], "inputs": [[2]]}', 422, "validation_failed"),
        (b'{"inputs": [[1]], "\\u0069nputs": [[2]]}', 422, "validation_failed"),
        (b'{"inputs": [[true]]}', 422, "validation_failed"),
        (b'{"inputs": [["1"]]}', 422, "validation_failed"),
        (b'{"inputs": [[1e999]]}', 422, "validation_failed"),
        (b'{"inputs": [[NaN]]}', 422, "validation_failed"),
        (b'{"inputs": [], "top_k": 1}', 422, "validation_failed"),
        (b'{"inputs": [[1]], "top_k": 0}', 422, "validation_failed"),
        (b'{"inputs": [[1]], "extra": 0}', 422, "validation_failed"),
        (b'{"inputs": [[1]', 400, "malformed_body"),
        (b"\xef\xbb\xbf{}", 400, "malformed_body"),
        (b"", 400, "malformed_body"),
    ],
)
async def test_what_is_wrong_is_refused_by_the_ordinary_road(
    client: httpx.AsyncClient, network: Json, content: bytes, status: int, code: str
) -> None:
    url = f"{network['links']['self']}/classify"
    await client.post(url, json={"inputs": [ROW]})

    answer = await client.post(url, content=content, headers={"Content-Type": "application/json"})

    problem(answer, status, code)


async def test_a_new_version_and_an_alias_answer_at_once(
    client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    body = {"inputs": [ROW]}
    assert (await client.post(f"{path}/classify", json=body)).json()["version"] == 0
    document = json.loads((await client.get(f"{path}/weights")).content)
    document["layers"][-1]["biases"][0] += 1.0
    del document["sha256"]

    assert (await client.put(f"{path}/weights", json=document)).status_code == 201
    newest = (await client.post(f"{path}/classify", json=body)).json()
    assert (await client.put(f"{path}/aliases/stable", json={"version": 0})).status_code == 200
    stable = (await client.post(f"{path}/classify", json=body)).json()

    assert (newest["version"], stable["version"]) == (1, 0)
    assert newest["predictions"] != stable["predictions"]


async def test_a_deleted_network_answers_no_more(client: httpx.AsyncClient, network: Json) -> None:
    path = network["links"]["self"]
    assert (await client.post(f"{path}/classify", json={"inputs": [ROW]})).status_code == 200

    assert (await client.delete(path)).status_code == 204

    answer = await client.post(f"{path}/classify", json={"inputs": [ROW]})
    problem(answer, 404, "not_found")
