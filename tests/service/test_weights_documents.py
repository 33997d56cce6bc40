"""Weights as JSON documents: download, upload and import."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.conftest import LAYERS, Json, Train, problem

SEED_DOCUMENT = {
    "layers": [
        {
            "type": "Dense",
            "weights": [[0.5], [-0.25]],
            "biases": [[0.125]],
            "inputSize": 2,
            "outputSize": 1,
            "activation": "sigmoid",
        }
    ],
    "loss": "mse",
}


async def test_weights_are_identical_after_download_and_upload(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    path = f"{network['links']['self']}/weights"
    await train(network["id"], epochs=3)
    first = await client.get(path)

    put = await client.put(path, content=first.content)

    assert (put.status_code, put.json()["version"], put.json()["origin"]) == (201, 2, "upload")
    assert (await client.get(path)).content == first.content
    assert first.headers["etag"] == (await client.get(path)).headers["etag"]
    unchanged = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert unchanged.status_code == 304
    initial = await client.get(f"{network['links']['self']}/versions/0/weights")
    assert initial.json()["preprocessing"] is None
    stale = await client.put(path, content=initial.content, headers={"If-Match": '"old"'})
    problem(stale, 412, "precondition_failed")
    fresh = await client.put(
        path, content=initial.content, headers={"If-Match": first.headers["etag"]}
    )
    assert fresh.status_code == 201


async def test_a_dry_run_of_an_upload_creates_no_version(
    client: httpx.AsyncClient, network: Json
) -> None:
    path = f"{network['links']['self']}/weights"
    document = (await client.get(path)).content

    checked = await client.put(f"{path}?dry_run=true", content=document)

    assert (checked.status_code, checked.json()["valid"]) == (200, True)
    assert (await client.get(network["links"]["self"])).json()["latest_version"] == 0


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        (("format_version",), 99, "/format_version"),
        (("layers", 0, "weights", 3, 2), None, "/layers/0/weights/3/2"),
        (("layers", 1, "biases"), [1.0], "/layers/1/biases"),
        (("sha256",), "0" * 64, "/sha256"),
    ],
)
async def test_invalid_weights_are_rejected_with_a_pointer(
    client: httpx.AsyncClient, network: Json, path: tuple[Any, ...], value: object, pointer: str
) -> None:
    url = f"{network['links']['self']}/weights"
    document: Any = (await client.get(url)).json()
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value

    problem(await client.put(url, json=document), 422, "validation_failed", pointer)


async def test_weights_of_another_architecture_are_rejected(
    client: httpx.AsyncClient, network: Json
) -> None:
    url = f"{network['links']['self']}/weights"
    document = (await client.get(url)).json()
    document["network"]["layers"][0]["activation"] = "tanh"

    problem(await client.put(url, json=SEED_DOCUMENT), 422, "validation_failed", "/layers")
    problem(await client.put(url, json=document), 422, "validation_failed", "/layers/0")


async def test_an_unsupported_weights_format_is_not_acceptable(
    client: httpx.AsyncClient, network: Json
) -> None:
    url = f"{network['links']['self']}/weights"

    problem(await client.get(url, headers={"Accept": "image/png"}), 406, "not_acceptable")
    problem(await client.get(f"{url}?format=nonsense"), 406, "not_acceptable")
    assert (await client.get(f"{url}?format=json")).status_code == 200


async def test_corrupt_weights_are_reported_and_other_networks_still_predict(
    client: httpx.AsyncClient, network: Json, data_dir: Path
) -> None:
    body = {"input_shape": [25], "layers": LAYERS, "seed": 12345}
    broken = (await client.post("/v1/networks", json=body)).json()["links"]["self"]
    digest = (await client.get(f"{broken}/versions/0")).json()["weights_sha256"]
    blob = data_dir / "blobs" / digest[:2] / digest[2:]
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    row = {"inputs": [[0.5] * 25]}

    problem(await client.get(f"{broken}/weights"), 409, "weights_corrupt")
    problem(await client.post(f"{broken}/classify", json=row), 409, "weights_corrupt")
    blob.unlink()
    problem(await client.post(f"{broken}/predict", json=row), 409, "weights_corrupt")
    healthy = f"{network['links']['self']}/classify"
    assert (await client.post(healthy, json=row)).status_code == 200


async def test_a_seed_document_is_imported_as_a_float64_network(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/networks/import?name=from-js", json=SEED_DOCUMENT)

    network = response.json()
    assert response.status_code == 201
    assert (network["name"], network["dtype"]) == ("from-js", "float64")
    assert network["import_report"]["format"] == "seed-json"
    assert any("mse" in note for note in network["import_report"]["notes"])
    outputs = await client.post("/v1/networks/from-js/predict", json={"inputs": [[1.0, 1.0]]})
    assert outputs.json()["outputs"][0][0] == pytest.approx(0.5926665999540697, abs=1e-15)


async def test_an_exported_network_is_imported_unchanged(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    await train(network["id"], epochs=2)
    document = await client.get(f"{network['links']['self']}/weights")

    imported = (await client.post("/v1/networks/import", content=document.content)).json()

    again = await client.get(f"{imported['links']['self']}/weights")
    assert again.content == document.content
    assert imported["import_report"] == {"format": "neurond-weights", "notes": []}


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, ""),
        ({"layers": [{"type": "Conv"}]}, "/layers/0/type"),
        (
            {
                "format": "neurond-weights",
                "format_version": 1,
                "network": {
                    "input_shape": [4096],
                    "layers": [{"type": "dense", "units": 4096}] * 5,
                },
                "layers": [],
            },
            "/network/layers",
        ),
    ],
)
async def test_an_invalid_document_is_not_imported(
    client: httpx.AsyncClient, document: Json, pointer: str
) -> None:
    response = await client.post("/v1/networks/import", json=document)

    problem(response, 422, "validation_failed", pointer)
