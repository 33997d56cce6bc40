"""Datasets over HTTP: what is taken, what is refused, and with which place."""

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.application.datasets.csv_reader import BLOCK, read_csv
from service.domain.errors import ServiceError
from service.domain.limits import Limits
from tests.service.conftest import Json, problem

CSV = {"content-type": "text/csv"}
NPZ = {"content-type": "application/x-npz"}


async def post_csv(client: httpx.AsyncClient, text: str | bytes, query: str = "") -> httpx.Response:
    return await client.post(f"/v1/datasets{query}", content=text, headers=CSV)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


async def test_rows_with_words_are_a_classification(client: httpx.AsyncClient) -> None:
    body = {
        "name": "fruits",
        "inputs": [[1, 2], [3, 4], [5, 6]],
        "targets": ["pear", "fig", "pear"],
    }

    answer = await client.post("/v1/datasets", json=body)

    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/datasets/{made['id']}"
    assert (made["rows"], made["input_shape"], made["task"]) == (3, [2], "classification")
    assert (made["labels"], made["class_counts"]) == (["fig", "pear"], {"fig": 1, "pear": 2})
    assert made["columns"] == ["x0", "x1"]
    assert (await client.get("/v1/datasets/fruits")).json() == made
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
async def test_the_task_is_guessed_unless_it_is_told(
    client: httpx.AsyncClient,
    targets: list[Any],
    task: str | None,
    expected: str,
    labels: list[str] | None,
) -> None:
    body: Json = {"inputs": [[1], [2], [3]], "targets": targets}
    if task:
        body["task"] = task

    made = (await client.post("/v1/datasets", json=body)).json()

    assert (made["task"], made["labels"]) == (expected, labels)


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
async def test_rows_that_cannot_be_used_are_refused_with_the_place(
    client: httpx.AsyncClient, body: object, pointer: str
) -> None:
    answer = await client.post("/v1/datasets", json=body)

    problem(answer, 422, "validation_failed", pointer)


async def test_a_csv_is_taken_with_its_columns(client: httpx.AsyncClient) -> None:
    text = '\ufeffage,"name, city",kind\r\n1,2,"a ""b"""\r\n3,4.5e0,c\r\n\r\n'

    made = (await post_csv(client, text.encode(), "?name=people")).json()
    other = (
        await post_csv(client, text.replace('"a ""b"""', "7").replace(",c", ",8"), "?target=age")
    ).json()

    assert (made["columns"], made["labels"]) == (["age", "name, city"], ['a "b"', "c"])
    assert other["columns"] == ["name, city", "kind"]


@pytest.mark.parametrize(
    ("text", "query", "row", "column"),
    [
        ("a,b,t\n1,2,x\n1,nan,y\n", "", 2, "b"),
        ("a,b,t\n1,2,x\n1,inf,y\n", "", 2, "b"),
        ("a,b,t\n1,,x\n1,2,y\n", "", 1, "b"),
        ("a,b,t\n1,1_000,x\n1,2,y\n", "", 1, "b"),
        ("a,b,t\n1,=1+1,x\n1,2,y\n", "", 1, "b"),
        ("a,b,t\n1,2,x\n1,2\n", "", 2, None),
        ("a,b,t\n1,2,x\n1,2,\n", "", 2, "t"),
    ],
)
async def test_a_bad_cell_is_named_by_row_and_column(
    client: httpx.AsyncClient, text: str, query: str, row: int, column: str | None
) -> None:
    before = (await client.get("/v1/datasets?limit=500")).json()["data"]

    body = problem(await post_csv(client, text, query), 422, "validation_failed")

    assert body["errors"][0]["row"] == row
    assert body["errors"][0].get("column") == column
    assert (await client.get("/v1/datasets?limit=500")).json()["data"] == before


async def test_the_first_twenty_bad_cells_are_named(client: httpx.AsyncClient) -> None:
    text = "a,t\n" + "x,1\n" * 50

    body = problem(await post_csv(client, text), 422, "validation_failed")

    assert [field_error["row"] for field_error in body["errors"]] == list(range(1, 21))


@pytest.mark.parametrize(
    ("text", "query", "code"),
    [
        ("", "", "malformed_body"),
        (b"a,t\n\xff,1\n", "", "malformed_body"),
        ('a,t\n"1,1\n', "", "malformed_body"),
        ("a,t\n" + "1" * 5000 + ",1\n", "", "malformed_body"),
        ("a,t\n", "", "validation_failed"),
        ("a\n1\n", "", "validation_failed"),
        ("1,2\n3,4\n", "", "validation_failed"),
        ("a,a\n3,4\n", "", "validation_failed"),
        ("a,\n3,4\n", "", "validation_failed"),
        ("a,t\n1,x\n2,x\n", "", "validation_failed"),
        ("a,t\n1,x\n2,y\n", "?target=z", "validation_failed"),
        ("a,t\n1,x\n2,y\n", "?task=regression", "validation_failed"),
        ("a,t\n1,x\n2,y\n", "?task=magic", "validation_failed"),
        (",".join(map(str, range(5000))) + "\n", "", "validation_failed"),
    ],
)
async def test_what_is_no_table_is_refused(
    client: httpx.AsyncClient, text: str | bytes, query: str, code: str
) -> None:
    problem(await post_csv(client, text, query), 400 if code == "malformed_body" else 422, code)


def test_a_csv_is_read_much_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "long.csv"
    file.write_text("a,b\n" + "0.5,1\n0.25,2\n" * 100_000)
    sizes: list[int] = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            sizes.append(size or -1)
            return super().read(size or -1) or b""

    monkeypatch.setattr(type(file), "open", lambda path, *_, **__: Counted(path))

    table = read_csv(file, None, "regression", Limits())

    assert len(table.inputs) == 200_000
    assert len(sizes) <= file.stat().st_size // BLOCK + 2


@pytest.mark.slow
def test_a_csv_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    path.write_text("a,b,t\n" + "1.25,2.5,yes\n0.5,1.5,no\n" * 160_000)

    tracemalloc.start()
    table = read_csv(path, None, None, Limits())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(table.inputs) == 320_000
    assert peak < 12 * path.stat().st_size


def test_a_csv_with_too_many_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("a,t\n" + "1,2\n" * 11)

    with pytest.raises(ServiceError, match="more than 10 rows"):
        read_csv(path, None, None, Limits(dataset_rows=10))


async def test_an_npz_is_taken(client: httpx.AsyncClient) -> None:
    inputs = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(4, 3))
    data = npz(inputs=inputs, targets=np.array([0, 1, 0, 1]))

    made = (await client.post("/v1/datasets?name=packed", content=data, headers=NPZ)).json()

    assert (made["rows"], made["input_shape"], made["labels"]) == (4, [3], ["0", "1"])
    rows = (await client.get("/v1/datasets/packed/rows")).json()["data"]
    assert rows[1] == {"row": 1, "inputs": [3.0, 4.0, 5.0], "target": "1"}


async def test_wrong_numbers_are_told_with_row_and_column(client: httpx.AsyncClient) -> None:
    inputs = np.zeros((30, 2))
    inputs[:25, 1] = np.nan
    rows = [[0.0, 1.0], [0.0, "x"]]

    file = await client.post(
        "/v1/datasets", content=npz(inputs=inputs, targets=np.zeros(30)), headers=NPZ
    )
    body = await client.post("/v1/datasets", json={"inputs": rows, "targets": [0, 1]})

    told = problem(file, 422, "validation_failed")["errors"]
    assert [(field_error["row"], field_error["column"]) for field_error in told] == [
        (n, 1) for n in range(20)
    ]
    assert told[0]["pointer"] == "/inputs/0/1"
    [field_error] = problem(body, 422, "validation_failed")["errors"]
    assert (field_error["pointer"], field_error["row"], field_error["column"]) == (
        "/inputs/1/1",
        1,
        1,
    )


def lying_npz() -> bytes:
    """Return a small file whose header asks for terabytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 4000), }"
    header += b" " * (118 - len(header)) + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inputs.npy", member)
        archive.writestr("targets.npy", member)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"not a zip", 400),
        (npz(inputs=np.zeros((2, 2))), 422),
        (npz(inputs=np.zeros((2, 2)), targets=np.zeros(2), more=np.zeros(1)), 422),
        (npz(inputs=np.zeros((2, 2)), targets=np.zeros(3)), 422),
        (npz(inputs=np.zeros(2), targets=np.zeros(2)), 422),
        (npz(inputs=np.zeros((2, 2)), targets=np.zeros((2, 2, 2))), 422),
        (npz(inputs=np.array([[None, 1], [2, 3]]), targets=np.zeros(2)), 422),
        (npz(inputs=np.array([["a", "b"]]), targets=np.zeros(1)), 422),
        (npz(inputs=np.array([[np.nan, 1.0]]), targets=np.zeros(1)), 422),
        (npz(inputs=np.zeros((2, 2)), targets=np.zeros(2)), 422),
        (lying_npz(), 422),
        (lying_npz()[:-60], 400),
    ],
)
async def test_an_npz_that_cannot_be_used_is_refused(
    client: httpx.AsyncClient, data: bytes, status: int
) -> None:
    answer = await client.post("/v1/datasets", content=data, headers=NPZ)

    problem(answer, status, "malformed_body" if status == 400 else "validation_failed")


async def test_what_is_too_long_is_refused(client: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b"1,2\n" * 50_000

    announced = await post_csv(client, "a,t\n" + "1,2\n" * 3_000_000)
    chunked = await client.post("/v1/datasets", content=endless(), headers=CSV)
    json_body = await client.post("/v1/datasets", json={"inputs": [[0.5] * 300_000]})

    for answer in (announced, chunked, json_body):
        problem(answer, 413, "payload_too_large")
        assert answer.headers["connection"] == "close"


async def test_other_media_types_and_encodings_are_refused(client: httpx.AsyncClient) -> None:
    strange = await client.post(
        "/v1/datasets", content=b"x", headers={"content-type": "text/plain"}
    )
    compress = await client.post(
        "/v1/datasets", content=b"x", headers={**CSV, "content-encoding": "gzip"}
    )

    problem(strange, 415, "unsupported_media_type")
    problem(compress, 415, "unsupported_media_type")


async def test_nothing_is_left_of_an_upload(client: httpx.AsyncClient, data_dir: Path) -> None:
    await post_csv(client, "a,t\n1,x\n2,y\n")
    await post_csv(client, "a,t\n1,x\n2\n")

    assert list((data_dir / "uploads").iterdir()) == []
    assert list((data_dir / "blobs" / "tmp").iterdir()) == []


async def test_a_deleted_dataset_is_gone(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/datasets", json={"builtin": "xor"})).json()

    deleted = await client.delete(f"/v1/datasets/{made['id']}")

    assert deleted.status_code == 204
    problem(await client.get(f"/v1/datasets/{made['id']}"), 404, "not_found")


async def test_a_damaged_dataset_is_told(client: httpx.AsyncClient, data_dir: Path) -> None:
    body = {"builtin": "moons", "samples": 77, "seed": 99}
    made = (await client.post("/v1/datasets", json=body)).json()
    blob = data_dir / "blobs" / made["sha256"][:2] / made["sha256"][2:]
    blob.write_bytes(b"damage")

    problem(await client.get(f"/v1/datasets/{made['id']}/rows"), 409, "dataset_corrupt")


async def test_a_name_can_be_given_in_the_query_for_json_too(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/datasets?name=query-named", json={"builtin": "circles"})
    refused = await client.post("/v1/datasets?target=x", json={"builtin": "circles"})

    assert made.json()["name"] == "query-named"
    problem(refused, 422, "validation_failed")
    taken = await client.post("/v1/datasets?name=query-named", json={"builtin": "circles"})
    problem(taken, 409, "name_taken")


async def test_what_only_looks_like_much_is_taken(client: httpx.AsyncClient) -> None:
    braces = {"inputs": [[0], [1]] * 5001, "targets": ["{a}", "[b]"] * 5001}
    inputs = np.random.default_rng(1).normal(size=(50_000, 2))
    compress = npz(inputs=inputs, targets=np.repeat([0, 1], 25_000))

    of_braces = await client.post("/v1/datasets", json=braces)
    of_zeros = await client.post("/v1/datasets", content=compress, headers=NPZ)

    assert of_braces.status_code == 201, of_braces.text
    assert of_zeros.status_code == 201, of_zeros.text
