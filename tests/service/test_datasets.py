"""Datasets over HTTP."""

import asyncio
import io
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from tests.service.conftest import Json, problem
from tests.service.uploads import CSV, NPZ, npz, post_csv


async def test_string_targets_make_a_classification_dataset(client: httpx.AsyncClient) -> None:
    body = {
        "name": "fruits",
        "inputs": [[1, 2], [3, 4], [5, 6]],
        "targets": ["pear", "fig", "pear"],
    }

    response = await client.post("/v1/datasets", json=body)

    dataset = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/datasets/{dataset['id']}"
    assert (dataset["rows"], dataset["input_shape"], dataset["task"]) == (3, [2], "classification")
    assert (dataset["labels"], dataset["class_counts"]) == (["fig", "pear"], {"fig": 1, "pear": 2})
    assert dataset["columns"] == ["x0", "x1"]
    assert (await client.get("/v1/datasets/fruits")).json() == dataset
    rows = (await client.get("/v1/datasets/fruits/rows?limit=1&offset=1")).json()
    assert rows["data"] == [{"row": 1, "inputs": [3.0, 4.0], "target": "fig"}]
    assert (rows["total"], rows["has_more"]) == (3, True)


@pytest.mark.parametrize(
    ("targets", "task", "expected", "labels"),
    [
        ([1, 2, 1], None, "classification", ["1", "2"]),
        ([1.0, 10.0, 2.0], None, "classification", ["1", "2", "10"]),
        ([1.5, 2.0, 1.0], None, "regression", None),
        ([1, 2, 1], "regression", "regression", None),
        ([1.5, 2.5, 1.5], "classification", "classification", ["1.5", "2.5"]),
        ([[1, 0], [0, 1], [1, 0]], None, "classification", ["0", "1"]),
        ([[1, 0], [0, 1], [1, 0]], "regression", "regression", None),
        ([[1, 2], [0, 1], [1, 0]], None, "regression", None),
    ],
)
async def test_the_task_is_inferred_unless_it_is_given(
    client: httpx.AsyncClient,
    targets: list[Any],
    task: str | None,
    expected: str,
    labels: list[str] | None,
) -> None:
    body: Json = {"inputs": [[1], [2], [3]], "targets": targets}
    if task:
        body["task"] = task

    dataset = (await client.post("/v1/datasets", json=body)).json()

    assert (dataset["task"], dataset["labels"]) == (expected, labels)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"inputs": [], "targets": []}, "/inputs"),
        ({"inputs": [[1, 2], [3]], "targets": ["a", "b"]}, "/inputs/1"),
        ({"inputs": [[], []], "targets": ["a", "b"]}, "/inputs/0"),
        ({"inputs": [[1], [2]], "targets": ["a"]}, "/targets"),
        ({"inputs": [[1], [2]], "targets": ["a", "a"]}, "/targets"),
        ({"inputs": [[1], [2]], "targets": ["a", 1]}, "/targets/0"),
        ({"inputs": [[1], [2]], "targets": [[1, 2], [1]]}, "/targets/1"),
        ({"inputs": [[1], [2]], "targets": ["a", "b"], "task": "regression"}, "/targets"),
        ({"inputs": [[1], [2]], "targets": [[1, 2], [0, 1]], "task": "classification"}, "/targets"),
        ({"inputs": [["1"], [2]], "targets": [1, 2]}, "/inputs/0/0"),
        ({"inputs": [[True], [2]], "targets": [1, 2]}, "/inputs/0/0"),
        ({"inputs": [[1], [2]], "targets": [1, 2], "owner": "me"}, "/owner"),
        ({"inputs": [[1], [2]], "targets": [1, 2], "name": "\u0000"}, "/name"),
        ({"builtin": "nothing"}, "/builtin"),
        ({"builtin": "digits", "samples": 1}, "/samples"),
        ({"builtin": "digits", "noise": -1}, "/noise"),
        ({"builtin": "xor", "samples": 2, "inputs": []}, "/inputs"),
        ([], ""),
    ],
)
async def test_invalid_rows_are_rejected_with_a_pointer(
    client: httpx.AsyncClient, body: object, pointer: str
) -> None:
    response = await client.post("/v1/datasets", json=body)

    problem(response, 422, "validation_failed", pointer)


async def test_invalid_numbers_are_reported_with_row_and_column(client: httpx.AsyncClient) -> None:
    inputs = np.zeros((30, 2))
    inputs[:25, 1] = np.nan
    rows = [[0.0, 1.0], [0.0, "x"]]

    file = await client.post(
        "/v1/datasets", content=npz(inputs=inputs, targets=np.zeros(30)), headers=NPZ
    )
    json_rows = await client.post("/v1/datasets", json={"inputs": rows, "targets": [0, 1]})

    errors = problem(file, 422, "validation_failed")["errors"]
    assert [(field_error["row"], field_error["column"]) for field_error in errors] == [
        (n, 1) for n in range(20)
    ]
    assert errors[0]["pointer"] == "/inputs/0/1"
    [field_error] = problem(json_rows, 422, "validation_failed")["errors"]
    assert (field_error["pointer"], field_error["row"], field_error["column"]) == (
        "/inputs/1/1",
        1,
        1,
    )


async def test_a_body_over_the_size_limit_is_rejected(client: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b"1,2\n" * 50_000

    announced = await post_csv(client, "a,t\n" + "1,2\n" * 3_000_000)
    chunked = await client.post("/v1/datasets", content=endless(), headers=CSV)
    json_body = await client.post("/v1/datasets", json={"inputs": [[0.5] * 300_000]})

    for response in (announced, chunked, json_body):
        problem(response, 413, "payload_too_large")
        assert response.headers["connection"] == "close"


async def test_unsupported_media_types_and_encodings_are_rejected(
    client: httpx.AsyncClient,
) -> None:
    unknown = await client.post(
        "/v1/datasets", content=b"x", headers={"content-type": "text/plain"}
    )
    compressed = await client.post(
        "/v1/datasets", content=b"x", headers={**CSV, "content-encoding": "br"}
    )

    problem(unknown, 415, "unsupported_media_type")
    problem(compressed, 415, "unsupported_media_type")


async def test_a_deleted_dataset_is_not_found(client: httpx.AsyncClient) -> None:
    dataset = (await client.post("/v1/datasets", json={"builtin": "xor"})).json()

    deleted = await client.delete(f"/v1/datasets/{dataset['id']}")

    assert deleted.status_code == 204
    problem(await client.get(f"/v1/datasets/{dataset['id']}"), 404, "not_found")


async def test_a_corrupt_dataset_is_reported(client: httpx.AsyncClient, data_dir: Path) -> None:
    body = {"builtin": "moons", "samples": 77, "seed": 99}
    dataset = (await client.post("/v1/datasets", json=body)).json()
    blob = data_dir / "blobs" / dataset["sha256"][:2] / dataset["sha256"][2:]
    blob.write_bytes(b"damage")

    problem(await client.get(f"/v1/datasets/{dataset['id']}/rows"), 409, "dataset_corrupt")


async def test_a_json_dataset_can_be_named_in_the_query(client: httpx.AsyncClient) -> None:
    created = await client.post("/v1/datasets?name=query-named", json={"builtin": "circles"})
    refused = await client.post("/v1/datasets?target=x", json={"builtin": "circles"})

    assert created.json()["name"] == "query-named"
    problem(refused, 422, "validation_failed")
    duplicate = await client.post("/v1/datasets?name=query-named", json={"builtin": "circles"})
    problem(duplicate, 409, "name_taken")


async def test_many_braces_in_strings_and_a_compressed_archive_are_accepted(
    client: httpx.AsyncClient,
) -> None:
    braces = {"inputs": [[0], [1]] * 5001, "targets": ["{a}", "[b]"] * 5001}
    inputs = np.random.default_rng(1).normal(size=(50_000, 2))
    archive = npz(inputs=inputs, targets=np.repeat([0, 1], 25_000))

    with_braces = await client.post("/v1/datasets", json=braces)
    compressed = await client.post("/v1/datasets", content=archive, headers=NPZ)

    assert with_braces.status_code == 201, with_braces.text
    assert compressed.status_code == 201, compressed.text


def peak_kilobytes(*, reset: bool = False) -> int:
    """Return the peak resident memory of this process in KiB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    match = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(match[1]) if match else 0


async def test_a_page_of_rows_reads_little_of_a_large_dataset(
    client: httpx.AsyncClient,
) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, inputs=np.zeros((100_000, 8)), targets=np.arange(100_000) % 2)
    data, query = stream.getvalue(), {"task": "classification"}
    created = await client.post("/v1/datasets", params=query, content=data, headers=NPZ)
    url = f"/v1/datasets/{created.json()['id']}/rows"
    await client.get(url, params={"limit": 1})
    before = peak_kilobytes(reset=True)

    pages = await asyncio.gather(
        *(client.get(url, params={"limit": 1, "offset": 5_000 * page}) for page in range(20))
    )

    assert [page.json()["data"][0]["row"] for page in pages] == [5_000 * n for n in range(20)]
    assert peak_kilobytes() - before < 40_000


async def test_rows_of_a_truncated_file_are_an_error(
    client: httpx.AsyncClient, app: FastAPI, data_dir: Path
) -> None:
    body = {"inputs": [[float(n)] for n in range(100)], "targets": [float(n) for n in range(100)]}
    dataset = (await client.post("/v1/datasets", json=body)).json()
    async with app.state.services.database.read() as work:
        sha256 = (await work.datasets.find("default", dataset["id"])).sha256
    path = data_dir / "blobs" / sha256[:2] / sha256[2:]
    data = path.read_bytes()
    for damaged in (data[:-1], data[:4], b""):
        path.write_bytes(damaged)
        response = await client.get(f"/v1/datasets/{dataset['id']}/rows")
        problem(response, 409, "dataset_corrupt")
    path.write_bytes(data)
