"""Predictions, evaluations and gradient checks over HTTP, and the model cache."""

import asyncio

import httpx
import numpy as np
import pytest

from core.formats import Model
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing
from service.application.inference.loaded_model import InferenceStatistics, LoadedModel
from service.domain.networks import NetworkRecord
from service.infrastructure.model_cache import LeastRecentlyUsed
from tests.service.conftest import LAYERS, Json, Train, problem

ROW = [0.5] * 25


async def test_each_row_is_classified_with_all_probabilities(
    client: httpx.AsyncClient, network: Json
) -> None:
    url = f"{network['links']['self']}/classify"

    body = (await client.post(url, json={"inputs": [ROW, [0] * 25], "top_k": 3})).json()

    assert (body["network"], body["version"]) == (network["name"], 0)
    assert len(body["predictions"]) == 2
    first = body["predictions"][0]
    assert sum(first["probabilities"]) == pytest.approx(1.0, abs=1e-6)
    assert first["probability"] == max(first["probabilities"])
    assert first["label"] == network["labels"][first["class_index"]]
    assert first["top"][0]["label"] == first["label"]
    assert len(first["top"]) == 3
    plain = (await client.post(url, json={"inputs": [ROW]})).json()
    assert "top" not in plain["predictions"][0]


@pytest.mark.parametrize(
    ("inputs", "pointer"),
    [
        ([], "/inputs"),
        ([[1.0] * 24], "/inputs/0"),
        ([ROW, []], "/inputs/1"),
        ([1.0], "/inputs/0"),
        ([ROW] * 10_001, "/inputs"),
        ([[1.0, 2.0]] * 30_000, "/inputs"),
        ([[1e308] * 25], "/inputs/0/0"),
    ],
)
@pytest.mark.parametrize("call", ["classify", "predict"])
async def test_invalid_rows_are_rejected_with_a_pointer(
    client: httpx.AsyncClient, network: Json, call: str, inputs: object, pointer: str
) -> None:
    url = f"{network['links']['self']}/{call}"

    problem(await client.post(url, json={"inputs": inputs}), 422, "validation_failed", pointer)


async def test_a_large_batch_gives_the_same_outputs_as_a_single_row(
    client: httpx.AsyncClient, network: Json
) -> None:
    url = f"{network['links']['self']}/predict"

    many = (await client.post(url, json={"inputs": [ROW] * 9000})).json()["outputs"]

    single = (await client.post(url, json={"inputs": [ROW]})).json()["outputs"]
    assert len(many) == 9000
    assert many[4321] == pytest.approx(single[0], abs=1e-6)


async def test_a_trained_network_evaluates_better_than_its_initial_version(
    client: httpx.AsyncClient, network: Json, digits: str, train: Train
) -> None:
    await train(network["id"], epochs=100)

    body = {"dataset": digits}
    latest = (await client.post(f"{network['links']['self']}/evaluate", json=body)).json()
    initial = await client.post(f"{network['links']['self']}/versions/0/evaluate", json=body)

    assert latest["rows"] == 200
    assert latest["accuracy"] > 0.8 > initial.json()["accuracy"]
    assert sum(map(sum, latest["confusion_matrix"])) == 200
    assert [entry["label"] for entry in latest["per_class"]] == network["labels"]
    missing = await client.post(f"{network['links']['self']}/evaluate", json={"dataset": "missing"})
    problem(missing, 404, "not_found")


async def test_the_gradient_check_passes_for_each_form_of_targets(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    url = f"{network['links']['self']}/gradient-check"

    by_dataset = (await client.post(url, json={"dataset": digits, "rows": 4})).json()
    by_rows = (await client.post(url, json={"inputs": [ROW], "targets": [7]})).json()
    by_vector = await client.post(url, json={"inputs": [ROW], "targets": [[0.1] * 10]})

    for report in (by_dataset, by_rows, by_vector.json()):
        assert report["passed"], report
        assert [layer["layer"] for layer in report["layers"]] == [0, 1]
        assert report["largest_relative_error"] <= report["tolerance"] == 1e-6


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": [ROW]},
        {"inputs": [ROW], "targets": [1], "dataset": "x"},
        {"inputs": [ROW], "targets": [1, 2]},
        {"inputs": [ROW], "targets": ["fox"]},
        {"inputs": [ROW], "targets": [[1.0, 2.0]]},
        {"inputs": [ROW], "targets": [[1.0] * 10]},
        {"inputs": [ROW] * 65, "targets": [1] * 65},
        {"inputs": [[1.0]], "targets": [1]},
    ],
)
async def test_an_invalid_gradient_check_is_rejected(
    client: httpx.AsyncClient, network: Json, body: Json
) -> None:
    url = f"{network['links']['self']}/gradient-check"

    problem(await client.post(url, json=body), 422, "validation_failed")


def loaded_model(name: str, parameters: int) -> LoadedModel:
    network = Network.from_config({"input_shape": [25], "layers": LAYERS})
    forward = Forward(network, Preprocessing())
    network.parameters = np.zeros(parameters, np.float32)
    record = NetworkRecord.__new__(NetworkRecord)
    object.__setattr__(record, "id", name)
    return LoadedModel(record, 0, Model(network), InferenceStatistics(), forward, None)


async def test_concurrent_requests_load_a_model_once_and_the_least_recently_used_is_evicted() -> (
    None
):
    cache, loads = LeastRecentlyUsed(budget=2 * (16000 + 8192)), list[str]()

    async def load(name: str) -> LoadedModel:
        loads.append(name)
        await asyncio.sleep(0)
        return loaded_model(name, 1000)

    async def get(name: str) -> LoadedModel:
        return await cache.get((name,), lambda: load(name))

    await asyncio.gather(*(get("a") for _ in range(50)))
    await get("b")
    await get("a")
    await get("c")

    assert loads == ["a", "b", "c"]
    await get("a")
    await get("b")
    assert loads == ["a", "b", "c", "b"]
    assert len(cache) == 2


async def test_a_model_dropped_while_it_loads_is_loaded_again() -> None:
    cache, loads = LeastRecentlyUsed(budget=1 << 20), list[str]()
    release = asyncio.Event()

    async def slow() -> LoadedModel:
        loads.append("slow")
        await release.wait()
        return loaded_model("a", 10)

    first = asyncio.create_task(cache.get(("a",), slow))
    await asyncio.sleep(0)
    cache.drop("a")
    second = asyncio.create_task(cache.get(("a",), slow))
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(first, second)

    assert loads == ["slow", "slow"]
    cache.drop("a")
    assert len(cache) == 0
