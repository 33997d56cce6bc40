"""Explanations of predictions, and differences between two versions."""

import json

import httpx
import numpy as np
import pytest

from tests.service.conftest import Json, Train, create_trained_network, problem

ROWS = np.random.default_rng(1).random((6, 25))


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
async def test_explanations_match_predictions_and_integrated_gradients_are_complete(
    client: httpx.AsyncClient, train: Train, method: str
) -> None:
    name = await create_trained_network(client, train)
    request = {"inputs": ROWS.tolist(), "method": method}
    body = (await client.post(f"/v1/networks/{name}/explain", json=request)).json()
    classes = (
        await client.post(f"/v1/networks/{name}/classify", json={"inputs": ROWS.tolist()})
    ).json()

    for explanation, prediction in zip(body["explanations"], classes["predictions"], strict=True):
        assert explanation["target"] == prediction["label"]
        assert explanation["output"] == pytest.approx(prediction["probability"], abs=1e-5)
        assert len(explanation["attributions"]) == 25
        if method == "integrated_gradients":
            total = sum(explanation["attributions"]) + explanation["completeness_gap"]
            assert abs(explanation["completeness_gap"]) < 1e-3
            assert total == pytest.approx(
                explanation["output"] - explanation["baseline_output"], abs=1e-9
            )
    targeted = {**request, "target": "3"}
    body = (await client.post(f"/v1/networks/{name}/explain", json=targeted)).json()
    assert {explanation["target"] for explanation in body["explanations"]} == {"3"}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"inputs": [[0.0] * 25], "target": "x"}, "/target"),
        ({"inputs": [[0.0] * 24]}, "/inputs/0"),
        ({"inputs": [[0.0] * 25], "method": "guess"}, "/method"),
        ({"inputs": [[0.0] * 25] * 101}, "/inputs"),
    ],
)
async def test_invalid_explanation_requests_are_rejected(
    client: httpx.AsyncClient, network: Json, body: Json, pointer: str
) -> None:
    url = network["links"]["self"] + "/explain"

    problem(await client.post(url, json=body), 422, "validation_failed", pointer)


async def test_the_two_classes_of_one_sigmoid_unit_have_opposite_attributions(
    client: httpx.AsyncClient,
) -> None:
    layers = [{"type": "dense", "units": 1, "activation": "sigmoid"}]
    body = {"input_shape": [2], "layers": layers, "labels": ["no", "yes"]}
    name = (await client.post("/v1/networks", json=body)).json()["id"]

    explanations = {}
    for label in ("no", "yes"):
        request = {"inputs": [[0.5, 1.0]], "target": label}
        response = await client.post(f"/v1/networks/{name}/explain", json=request)
        explanations[label] = response.json()["explanations"][0]

    assert explanations["no"]["output"] == pytest.approx(1 - explanations["yes"]["output"])
    assert explanations["no"]["attributions"] == pytest.approx(
        [-value for value in explanations["yes"]["attributions"]]
    )


async def test_a_diff_reports_changed_weights_and_predictions(
    client: httpx.AsyncClient, train: Train, digits: str
) -> None:
    name = await create_trained_network(client, train)

    url = f"/v1/networks/{name}/diff"
    diff = (await client.get(url, params={"from": "0", "to": "1", "dataset": digits})).json()
    unchanged = (
        await client.get(url, params={"from": "1", "to": "latest", "dataset": digits})
    ).json()

    assert (diff["from"], diff["to"]) == (0, 1)
    assert [layer["layer"] for layer in diff["layers"]] == [0, 0, 1, 1]
    assert all(layer["norm_of_change"] > 0 for layer in diff["layers"])
    first = diff["layers"][0]
    documents = [
        json.loads((await client.get(f"/v1/networks/{name}/versions/{n}/weights")).content)
        for n in (0, 1)
    ]
    before, after = (np.array(document["layers"][0]["weights"]) for document in documents)
    assert first["norm_of_change"] == pytest.approx(np.linalg.norm(after - before), rel=1e-5)
    row, column = first["at"]
    assert abs(after - before)[row, column] == pytest.approx(abs(after - before).max())
    assert 0 < diff["predictions"]["changed"] <= 200
    assert {"row", "from", "to"} == set(diff["predictions"]["examples"][0])
    assert unchanged["predictions"]["changed"] == 0
    assert all(layer["norm_of_change"] == 0 for layer in unchanged["layers"])
    problem(await client.get(url, params={"from": "9"}), 404, "not_found")
    problem(await client.get(url), 422, "validation_failed")
    problem(await client.get(url, params={"from": ""}), 422, "validation_failed")
    plane = (await client.post("/v1/datasets", json={"builtin": "moons", "samples": 9})).json()
    narrow = await client.get(url, params={"from": "0", "dataset": plane["id"]})
    assert problem(narrow, 422, "validation_failed")["errors"][0]["parameter"] == "dataset"
