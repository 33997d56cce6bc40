"""Weights files: export, import, and upload as a version."""

import io
import json

import httpx
import numpy as np
import pytest

from tests.service.conftest import (
    Json,
    Train,
    create_trained_network,
    problem,
    wait_for_status,
    wait_until_finished,
)
from tests.waiting import wait_until

ROWS = np.random.default_rng(1).random((6, 25))
FORMATS = {
    "npz": "application/x-npz",
    "safetensors": "application/vnd.safetensors",
    "onnx": "application/onnx",
    "python": "text/x-python",
    "javascript": "text/javascript",
}


@pytest.mark.parametrize("format_name", FORMATS)
async def test_a_weights_format_is_selected_by_name_or_by_accept_header(
    client: httpx.AsyncClient, network: Json, format_name: str
) -> None:
    if format_name == "onnx":
        pytest.importorskip("onnx")
    url = network["links"]["self"] + "/weights"

    by_name = await client.get(url, params={"format": format_name})
    by_accept = await client.get(url, headers={"Accept": f"{FORMATS[format_name]};q=0.9"})

    assert by_name.status_code == 200, by_name.text
    assert by_name.content == by_accept.content
    assert by_name.headers["content-type"].startswith(FORMATS[format_name])
    assert "filename*=UTF-8''" in by_name.headers["content-disposition"]
    again = await client.get(
        url, params={"format": format_name}, headers={"If-None-Match": by_name.headers["etag"]}
    )
    assert again.status_code == 304


async def test_an_unknown_weights_format_is_not_acceptable(
    client: httpx.AsyncClient, network: Json
) -> None:
    url = network["links"]["self"] + "/weights"

    problem(await client.get(url, params={"format": "pickle"}), 406, "not_acceptable")
    problem(await client.get(url, headers={"Accept": "text/html"}), 406, "not_acceptable")


@pytest.mark.parametrize("format_name", ["npz", "safetensors", "onnx"])
async def test_an_exported_file_is_accepted_as_a_network_and_as_a_version(
    client: httpx.AsyncClient, train: Train, format_name: str
) -> None:
    if format_name == "onnx":
        pytest.importorskip("onnx")
    name = await create_trained_network(client, train)
    file = await client.get(f"/v1/networks/{name}/weights", params={"format": format_name})
    headers = {"Content-Type": FORMATS[format_name]}

    imported = await client.post("/v1/networks/import", content=file.content, headers=headers)
    put = await client.put(f"/v1/networks/{name}/weights", content=file.content, headers=headers)

    assert imported.status_code == 201, imported.text
    assert imported.json()["import_report"]["format"] == format_name
    assert put.status_code == 201, put.text
    body = {"inputs": ROWS.tolist()}
    first = (await client.post(f"/v1/networks/{name}/versions/1/classify", json=body)).json()
    second = (await client.post(f"/v1/networks/{imported.json()['id']}/classify", json=body)).json()
    assert [p["label"] for p in first["predictions"]] == [p["label"] for p in second["predictions"]]
    for before, after in zip(first["predictions"], second["predictions"], strict=True):
        assert np.allclose(before["probabilities"], after["probabilities"], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("application/onnx", b"junk" * 10, "validation_failed"),
        ("application/x-npz", b"PK", "validation_failed"),
        ("application/vnd.safetensors", b"\xff" * 64, "validation_failed"),
    ],
)
async def test_invalid_files_are_rejected(
    client: httpx.AsyncClient, kind: str, body: bytes, code: str
) -> None:
    if "onnx" in kind:
        pytest.importorskip("onnx")
    response = await client.post(
        "/v1/networks/import", content=body, headers={"Content-Type": kind}
    )

    problem(response, 422, code)


async def test_an_unsupported_file_type_is_rejected(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/x-pickle"}
    response = await client.post("/v1/networks/import", content=b"x", headers=headers)

    problem(response, 415, "unsupported_media_type")


async def test_uploaded_weights_match_by_dense_layers_and_list_ignored_settings(
    client: httpx.AsyncClient,
) -> None:
    def body(slope: float, *rates: float, dtype: str = "float32") -> Json:
        leaky = {"type": "dense", "units": 4, "activation": "leaky_relu", "negative_slope": slope}
        drop = [{"type": "dropout", "rate": rate} for rate in rates]
        last = {"type": "dense", "units": 2, "activation": "softmax"}
        return {"input_shape": [3], "layers": [leaky, *drop, last], "dtype": dtype}

    async def document(request: Json) -> Json:
        network = (await client.post("/v1/networks", json=request)).json()
        exported: Json = (await client.get(network["links"]["weights"])).json()
        return exported

    url = (await client.post("/v1/networks", json=body(0.1, 0.2))).json()["links"]["weights"]
    labelled = {**body(0.1, 0.3, dtype="float64"), "labels": ["a", "b"]}

    plain = await client.put(url, json=await document(body(0.1)))
    same = await client.put(url, json=await document(body(0.1, 0.2)))
    different = await client.put(url, json=await document(labelled))
    steep = await client.put(url, json=await document(body(0.9, 0.2)))

    assert plain.json()["notes"] == same.json()["notes"] == []
    assert [note.split()[1] for note in different.json()["notes"]] == [
        "labels",
        "weights",
        "dropout",
    ]
    problem(steep, 422, "validation_failed", "/layers/0")


async def test_an_npz_without_metadata_is_imported(client: httpx.AsyncClient) -> None:
    stream = io.BytesIO()
    np.savez(stream, w0=np.ones((2, 3)), b0=np.zeros(3), w1=np.ones((3, 1)), b1=np.zeros(1))

    response = await client.post(
        "/v1/networks/import?name=theirs",
        content=stream.getvalue(),
        headers={"Content-Type": "application/x-npz"},
    )

    assert response.status_code == 201, response.text
    assert response.json()["dtype"] == "float64"


async def test_a_promoted_checkpoint_is_unchanged_while_its_job_continues(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": {"epochs": 100_000}}
    job = (await client.post("/v1/jobs", json=body)).json()["id"]
    await wait_for_status(client, job, "running")
    taken = await client.post(f"/v1/jobs/{job}/checkpoints")
    assert taken.status_code in {200, 201, 202}, taken.text

    async def stored() -> list[Json]:
        listed: list[Json] = (await client.get(f"/v1/jobs/{job}/checkpoints")).json()["data"]
        return listed

    checkpoints = await wait_until(stored)
    promoted = await client.post(f"/v1/jobs/{job}/checkpoints/{checkpoints[0]['id']}/promote")
    version = promoted.json()

    path = f"/v1/networks/{network['id']}/versions/{version['version']}/weights"
    digests = [json.loads((await client.get(path)).content)["sha256"] for _ in range(3)]

    assert set(digests) == {version["weights_sha256"]}
    await client.post(f"/v1/jobs/{job}/cancel")
    await wait_until_finished(client, job)


async def test_a_key_of_an_import_is_bound_to_the_file(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/x-npz", "Idempotency-Key": "import-1"}
    files = []
    for value in (1.0, 2.0):
        stream = io.BytesIO()
        np.savez(stream, w=np.full((2, 1), value), b=np.zeros(1))
        files.append(stream.getvalue())

    first = await client.post("/v1/networks/import", content=files[0], headers=headers)
    again = await client.post("/v1/networks/import", content=files[0], headers=headers)
    different = await client.post("/v1/networks/import", content=files[1], headers=headers)

    assert again.json() == first.json()
    problem(different, 422, "idempotency_key_reused")


def corrupted_copies(data: bytes, count: int) -> list[bytes]:
    generator = np.random.default_rng(0)
    results = []
    for _ in range(count):
        changed = bytearray(data)
        for index in generator.integers(0, len(data), 3):
            changed[index] = generator.integers(0, 256)
        results.append(bytes(changed))
    return results


@pytest.mark.parametrize("format_name", ["npz", "safetensors", "onnx"])
async def test_corrupted_files_never_cause_a_server_error(
    client: httpx.AsyncClient, network: Json, format_name: str
) -> None:
    if format_name == "onnx":
        pytest.importorskip("onnx")
    url = network["links"]["self"] + "/weights"
    data = (await client.get(url, params={"format": format_name})).content

    for body in corrupted_copies(data, 150):
        response = await client.put(
            url,
            content=body,
            headers={"Content-Type": FORMATS[format_name]},
            params={"dry_run": "true"},
        )
        assert response.status_code in {200, 400, 422}, response.text
