"""Why a network says what it says, and what changed between two versions."""

import json

import httpx
import numpy as np
import pytest

from tests.service.conftest import Json, Train, problem, trained

ROWS = np.random.default_rng(1).random((6, 25))


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
async def test_explanations_add_up(client: httpx.AsyncClient, train: Train, method: str) -> None:
    name = await trained(client, train)
    body = {"inputs": ROWS.tolist(), "method": method}
    told = (await client.post(f"/v1/networks/{name}/explain", json=body)).json()
    classes = (
        await client.post(f"/v1/networks/{name}/classify", json={"inputs": ROWS.tolist()})
    ).json()

    for explanation, prediction in zip(told["explanations"], classes["predictions"], strict=True):
        assert explanation["target"] == prediction["label"]
        assert explanation["output"] == pytest.approx(prediction["probability"], abs=1e-5)
        assert len(explanation["attributions"]) == 25
        if method == "integrated_gradients":
            total = sum(explanation["attributions"]) + explanation["completeness_gap"]
            assert abs(explanation["completeness_gap"]) < 1e-3
            assert total == pytest.approx(
                explanation["output"] - explanation["baseline_output"], abs=1e-9
            )
    one = {**body, "target": "3"}
    told = (await client.post(f"/v1/networks/{name}/explain", json=one)).json()
    assert {explanation["target"] for explanation in told["explanations"]} == {"3"}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"inputs": [[0.0] * 25], "target": "x"}, "/target"),
        ({"inputs": [[0.0] * 24]}, "/inputs/0"),
        ({"inputs": [[0.0] * 25], "method": "guess"}, "/method"),
        ({"inputs": [[0.0] * 25] * 101}, "/inputs"),
    ],
)
async def test_explanations_that_cannot_be_given_are_refused(
    client: httpx.AsyncClient, network: Json, body: Json, pointer: str
) -> None:
    url = network["links"]["self"] + "/explain"

    problem(await client.post(url, json=body), 422, "validation_failed", pointer)


async def test_two_classes_of_one_unit_mirror_each_other(client: httpx.AsyncClient) -> None:
    layers = [{"type": "dense", "units": 1, "activation": "sigmoid"}]
    body = {"input_shape": [2], "layers": layers, "labels": ["no", "yes"]}
    name = (await client.post("/v1/networks", json=body)).json()["id"]

    told = {}
    for label in ("no", "yes"):
        asked = {"inputs": [[0.5, 1.0]], "target": label}
        answer = await client.post(f"/v1/networks/{name}/explain", json=asked)
        told[label] = answer.json()["explanations"][0]

    assert told["no"]["output"] == pytest.approx(1 - told["yes"]["output"])
    assert told["no"]["attributions"] == pytest.approx(
        [-value for value in told["yes"]["attributions"]]
    )


async def test_a_diff_tells_what_moved_and_what_is_now_said(
    client: httpx.AsyncClient, train: Train, digits: str
) -> None:
    name = await trained(client, train)

    url = f"/v1/networks/{name}/diff"
    told = (await client.get(url, params={"from": "0", "to": "1", "dataset": digits})).json()
    same = (await client.get(url, params={"from": "1", "to": "latest", "dataset": digits})).json()

    assert (told["from"], told["to"]) == (0, 1)
    assert [part["layer"] for part in told["layers"]] == [0, 0, 1, 1]
    assert all(part["norm_of_change"] > 0 for part in told["layers"])
    first = told["layers"][0]
    documents = [
        json.loads((await client.get(f"/v1/networks/{name}/versions/{n}/weights")).content)
        for n in (0, 1)
    ]
    before, after = (np.array(document["layers"][0]["weights"]) for document in documents)
    assert first["norm_of_change"] == pytest.approx(np.linalg.norm(after - before), rel=1e-5)
    row, column = first["at"]
    assert abs(after - before)[row, column] == pytest.approx(abs(after - before).max())
    assert 0 < told["predictions"]["changed"] <= 200
    assert {"row", "from", "to"} == set(told["predictions"]["examples"][0])
    assert same["predictions"]["changed"] == 0
    assert all(part["norm_of_change"] == 0 for part in same["layers"])
    problem(await client.get(url, params={"from": "9"}), 404, "not_found")
    problem(await client.get(url), 422, "validation_failed")
    problem(await client.get(url, params={"from": ""}), 422, "validation_failed")
    plane = (await client.post("/v1/datasets", json={"builtin": "moons", "samples": 9})).json()
    narrow = await client.get(url, params={"from": "0", "dataset": plane["id"]})
    assert problem(narrow, 422, "validation_failed")["errors"][0]["parameter"] == "dataset"
