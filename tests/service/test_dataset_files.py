"""CSV and npz datasets over HTTP."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.application.datasets.csv_reader import BLOCK, read_csv
from service.domain.errors import ServiceError
from service.domain.limits import Limits
from tests.service.conftest import problem
from tests.service.uploads import NPZ, npz, post_csv


async def test_a_csv_is_stored_with_its_column_names(client: httpx.AsyncClient) -> None:
    text = '\ufeffage,"name, city",kind\r\n1,2,"a ""b"""\r\n3,4.5e0,c\r\n\r\n'

    last_column_target = (await post_csv(client, text.encode(), "?name=people")).json()
    first_column_target = (
        await post_csv(client, text.replace('"a ""b"""', "7").replace(",c", ",8"), "?target=age")
    ).json()

    assert (last_column_target["columns"], last_column_target["labels"]) == (
        ["age", "name, city"],
        ['a "b"', "c"],
    )
    assert first_column_target["columns"] == ["name, city", "kind"]


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
async def test_an_invalid_cell_is_reported_with_row_and_column(
    client: httpx.AsyncClient, text: str, query: str, row: int, column: str | None
) -> None:
    before = (await client.get("/v1/datasets?limit=500")).json()["data"]

    body = problem(await post_csv(client, text, query), 422, "validation_failed")

    assert body["errors"][0]["row"] == row
    assert body["errors"][0].get("column") == column
    assert (await client.get("/v1/datasets?limit=500")).json()["data"] == before


async def test_at_most_twenty_invalid_cells_are_reported(client: httpx.AsyncClient) -> None:
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
async def test_an_invalid_csv_is_rejected(
    client: httpx.AsyncClient, text: str | bytes, query: str, code: str
) -> None:
    problem(await post_csv(client, text, query), 400 if code == "malformed_body" else 422, code)


def test_a_csv_is_read_in_large_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "long.csv"
    file.write_text("a,b\n" + "0.5,1\n0.25,2\n" * 100_000)
    sizes: list[int] = []

    class CountingFile(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            sizes.append(size or -1)
            return super().read(size or -1) or b""

    monkeypatch.setattr(type(file), "open", lambda path, *_, **__: CountingFile(path))

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


def test_a_csv_with_too_many_rows_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("a,t\n" + "1,2\n" * 11)

    with pytest.raises(ServiceError, match="more than 10 rows"):
        read_csv(path, None, None, Limits(dataset_rows=10))


async def test_an_npz_is_stored_as_a_dataset(client: httpx.AsyncClient) -> None:
    inputs = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(4, 3))
    data = npz(inputs=inputs, targets=np.array([0, 1, 0, 1]))

    dataset = (await client.post("/v1/datasets?name=packed", content=data, headers=NPZ)).json()

    assert (dataset["rows"], dataset["input_shape"], dataset["labels"]) == (4, [3], ["0", "1"])
    rows = (await client.get("/v1/datasets/packed/rows")).json()["data"]
    assert rows[1] == {"row": 1, "inputs": [3.0, 4.0, 5.0], "target": "1"}


def npz_with_false_shape() -> bytes:
    """Return a small archive whose headers declare 32 GB each."""
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
        (npz_with_false_shape(), 422),
        (npz_with_false_shape()[:-60], 400),
    ],
)
async def test_an_invalid_npz_is_rejected(
    client: httpx.AsyncClient, data: bytes, status: int
) -> None:
    response = await client.post("/v1/datasets", content=data, headers=NPZ)

    problem(response, status, "malformed_body" if status == 400 else "validation_failed")


async def test_uploads_leave_no_temporary_files(client: httpx.AsyncClient, data_dir: Path) -> None:
    await post_csv(client, "a,t\n1,x\n2,y\n")
    await post_csv(client, "a,t\n1,x\n2\n")

    assert list((data_dir / "uploads").iterdir()) == []
    assert list((data_dir / "blobs" / "tmp").iterdir()) == []
