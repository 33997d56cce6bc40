"""The container interfaces of SageMaker, MLflow, Vertex AI and Azure ML."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.settings import Protocol, Settings
from tests.acceptance.server import Server
from tests.protocols.conftest import World
from tests.service.conftest import in_process

INVOKE = "/invocations"


def predictions(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return np.array(response.json()["predictions"])


def post(world: World, content: bytes, kind: str, **headers: str) -> httpx.Response:
    return world.client.post(INVOKE, content=content, headers={"Content-Type": kind, **headers})


def csv(rows: Any, header: str = "") -> bytes:
    lines = [",".join(map(repr, row)) for row in rows.tolist()]
    return (header + "\n".join(lines) + "\n").encode()


def test_ping_and_health_return_a_newline(world: World) -> None:
    for path in ("/ping", "/health"):
        response = world.client.get(path)
        assert (response.status_code, response.text) == (200, "\n")
    assert world.client.get("/version").headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: {"instances": rows},
        lambda rows: {"instances": [{"features": row} for row in rows]},
        lambda rows: {"inputs": rows},
        lambda rows: {"inputs": {"input": rows}},
        lambda rows: {"dataframe_split": {"columns": list(map(str, range(25))), "data": rows}},
        lambda rows: {"dataframe_split": {"columns": list(range(25)), "index": [0], "data": rows}},
        lambda rows: {
            "dataframe_records": [dict(zip(map(str, range(25)), row, strict=True)) for row in rows],
            "params": {"x": 1},
        },
        lambda rows: rows,
        lambda rows: {"instances": rows, "params": {}},
        lambda rows: {
            "dataframe_split": {"columns": ["instances", *map(str, range(24))], "data": rows}
        },
    ],
)
def test_every_json_format_gives_the_same_predictions(world: World, form: Any) -> None:
    body = json.dumps(form(world.rows.tolist())).encode()

    assert np.array_equal(predictions(post(world, body, "application/json")), world.outputs)


def test_column_names_may_contain_brackets(world: World) -> None:
    row = {f"px[{n}]{{}}": 0.5 for n in range(25)}

    response = post(
        world, json.dumps({"dataframe_records": [row] * 1000}).encode(), "application/json"
    )

    assert response.status_code == 200, response.text


def test_csv_returns_csv_without_a_header_and_json_with_one(
    world: World,
) -> None:
    plain = post(world, csv(world.rows.astype(float)), "text/csv")
    header = ",".join(f"x{index}" for index in range(25)) + "\n"
    named = post(world, csv(world.rows.astype(float), header), "text/csv; charset=utf-8")

    assert plain.headers["content-type"].startswith("text/csv")
    rows = [[float(cell) for cell in line.split(",")] for line in plain.text.splitlines()]
    assert np.array_equal(np.array(rows), world.outputs)
    assert np.array_equal(predictions(named), world.outputs)


def test_json_lines_and_npy_return_their_own_or_the_accepted_format(world: World) -> None:
    lines = "".join(json.dumps({"features": row}) + "\n" for row in world.rows.tolist()).encode()
    response = post(world, lines, "application/jsonlines")
    outputs = np.array([json.loads(line) for line in response.text.splitlines()])
    assert np.array_equal(outputs, world.outputs)

    stream = io.BytesIO()
    np.save(stream, world.rows)
    response = post(world, stream.getvalue(), "application/x-npy", Accept="application/x-npy")
    outputs = np.load(io.BytesIO(response.content), allow_pickle=False)
    assert np.array_equal(outputs, world.outputs.astype(np.float32))
    as_json = post(world, stream.getvalue(), "application/x-npy", Accept="application/json")
    assert np.array_equal(predictions(as_json), world.outputs)


ORDER = "'fortran_order': False"


def npy(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"instances": [[1]], "inputs": [[1]]}', "application/json", 400),
        (b'{"inputs": [["a"]]}', "application/json", 400),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', "application/json", 400),
        (b'{"dataframe_records": [{"a": 1}, {"b": 1}]}', "application/json", 400),
        (b'{"dataframe_records": [{"a": 1, "a": 2}]}', "application/json", 400),
        (b'{"instances": [[1]], "instances": [[1]]}', "application/json", 400),
        (b"a" * 5000 + b",b\n1,2\n", "text/csv", 400),
        (b"1,2,x\n", "text/csv", 400),
        (b"1,2\n3,4\n", "text/csv", 400),
        (b"1,nan\n", "text/csv", 400),
        (b"\xff\xfe\n", "text/csv", 400),
        (b"PAR1", "application/vnd.apache.parquet", 415),
        (b"{}", "application/json; charset=latin-1", 415),
        (b"junk", "application/x-npy", 400),
        (b"1" * 200_000 + b",2\n", "text/csv", 400),
        (b"1,2\r3,4\n", "text/csv", 400),
        (
            npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 25)}"),
            "application/x-npy",
            400,
        ),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 25)}"),
            "application/x-npy",
            400,
        ),
    ],
)
def test_an_invalid_body_is_rejected(world: World, body: bytes, kind: str, status: int) -> None:
    response = post(world, body, kind)

    assert response.status_code == status, response.text
    if status == 400:
        assert set(response.json()) == {"error_code", "message"}
    else:
        assert response.headers["content-type"].startswith("text/plain")


def test_vertex_routes_come_from_environment_variables(world: World) -> None:
    assert world.client.get("/aip/health").status_code == 200
    body = {"instances": world.rows.tolist(), "parameters": {"x": 1}}
    assert np.array_equal(predictions(world.client.post("/aip/predict", json=body)), world.outputs)
    wrong = world.client.post("/aip/predict", json={"rows": []})
    assert wrong.json()["error"]["code"] == wrong.status_code == 422


def test_azure_ml_scores_and_returns_request_ids(world: World) -> None:
    for body in (
        {"input_data": world.rows.tolist()},
        {"data": world.rows.tolist()},
        {"input_data": {"columns": list(range(25)), "index": [1], "data": world.rows.tolist()}},
    ):
        response = world.client.post(
            "/score",
            json=body,
            headers={"x-request-id": "r-1", "x-ms-client-request-id": "c-1"},
        )
        assert np.array_equal(np.array(response.json()), world.outputs)
        assert response.headers["x-ms-request-id"] == "r-1"
        assert response.headers["x-ms-client-request-id"] == "c-1"
    assert set(world.client.post("/score", json={}).json()) == {"message"}
    assert world.client.get("/swagger.json?version=3").json()["openapi"].startswith("3.")


@pytest.fixture
def model_server(tmp_path: Path, world: World) -> Iterator[tuple[Server, Path]]:
    """Return a server with a model directory, and the directory with two models."""
    folder = tmp_path / "models"
    (folder / "second").mkdir(parents=True)
    document = world.client.get("/v1/networks/digits/weights").content
    (folder / "first.json").write_bytes(document)
    (folder / "second" / "model.npz").write_bytes(
        world.client.get("/v1/networks/coin/weights?format=npz").content
    )
    (tmp_path / "outside.json").write_bytes(document)
    server = Server(
        tmp_path / "data",
        workers=1,
        environment={"NEUROND_MODEL_DIR": str(folder), "NEUROND_DEFAULT_NETWORK": ""},
    )
    yield server, folder
    server.client.close()
    if server.process is not None and server.process.poll() is None:
        server.stop()


def test_models_of_a_directory_are_served_and_can_be_loaded_under_another_name(
    model_server: tuple[Server, Path], world: World
) -> None:
    server, folder = model_server
    client = server.start().client

    names = {network["name"] for network in client.get("/v1/networks").json()["data"]}
    assert names == {"first", "model"}
    body = {"model_name": "again", "url": str(folder / "second")}
    loaded = client.post("/models", json=body)
    assert loaded.json() == {"modelName": "again", "modelUrl": str(folder / "second")}
    assert client.post("/models", json=body).status_code == 409
    outside = {"model_name": "x", "url": str(folder.parent / "outside.json")}
    assert client.post("/models", json=outside).status_code == 404
    listed = client.get("/models").json()["models"]
    assert "again" in [model["modelName"] for model in listed]
    row = json.dumps({"instances": [[0.5, 0.5]]}).encode()
    invoked = client.post("/models/again/invoke", content=row)
    assert predictions(invoked).shape == (1, 1)
    assert client.delete("/models/again").status_code == 200
    assert client.get("/models/again").status_code == 404
    several = client.post(INVOKE, json={"instances": world.rows.tolist()})
    assert several.status_code == 400
    assert "NEUROND_DEFAULT_NETWORK" in several.json()["message"]


def test_a_name_with_a_slash_works_in_every_protocol(world: World) -> None:
    layers = [{"type": "dense", "units": 1, "activation": "linear"}]
    body = {"name": "a/b", "input_shape": [2], "layers": layers}
    assert world.client.post("/v1/networks", json=body).status_code == 201

    for path in ("/v2/models/a%2Fb", "/v1/models/a%2Fb", "/models/a%2Fb", "/v1/networks/a%2Fb"):
        assert world.client.get(path).status_code == 200, path


def test_an_invalid_model_to_load_is_rejected(world: World) -> None:
    for body in (
        b"{}",
        b'{"model_name": "", "url": "/x"}',
        b'{"model_name": "m", "url": "a\\u0000b"}',
    ):
        response = world.client.post("/models", content=body)
        assert response.status_code in {400, 404}, response.text


def test_head_returns_the_headers_of_get_without_a_body(world: World) -> None:
    for path in ("/healthz", "/v1/networks", "/v1/networks/digits/weights"):
        head, get = world.client.head(path), world.client.get(path)
        assert head.status_code == get.status_code == 200
        assert head.headers["content-length"] == str(len(get.content))
        assert head.content == b""


async def test_a_disabled_protocol_has_no_routes(tmp_path: Path) -> None:
    protocols = frozenset({Protocol.OPEN_INFERENCE})
    async with in_process(Settings(data_dir=tmp_path, workers=1, protocols=protocols)) as client:
        enabled = await client.get("/v2")
        disabled = [
            await client.post(path, json={"instances": [[1]]})
            for path in ("/v1/models/x:predict", "/invocations", "/models/x/invoke", "/score")
        ]

    assert enabled.status_code == 200
    assert {response.status_code for response in disabled} == {404}
    assert {response.headers["content-type"] for response in disabled} == {
        "application/problem+json"
    }
