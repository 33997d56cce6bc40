"""Weights in and out of the service in every form."""

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.conftest import LAYERS, Json, Train, ended, problem, trained, until

ROWS = np.random.default_rng(1).random((6, 25))
FORMATS = {
    "npz": "application/x-npz",
    "safetensors": "application/vnd.safetensors",
    "onnx": "application/onnx",
    "python": "text/x-python",
    "javascript": "text/javascript",
}


@pytest.mark.parametrize("wanted", FORMATS)
async def test_weights_are_offered_by_name_and_by_accept(
    client: httpx.AsyncClient, network: Json, wanted: str
) -> None:
    if wanted == "onnx":
        pytest.importorskip("onnx")
    url = network["links"]["self"] + "/weights"

    by_name = await client.get(url, params={"format": wanted})
    by_accept = await client.get(url, headers={"Accept": f"{FORMATS[wanted]};q=0.9"})

    assert by_name.status_code == 200, by_name.text
    assert by_name.content == by_accept.content
    assert by_name.headers["content-type"].startswith(FORMATS[wanted])
    assert "filename*=UTF-8''" in by_name.headers["content-disposition"]
    again = await client.get(
        url, params={"format": wanted}, headers={"If-None-Match": by_name.headers["etag"]}
    )
    assert again.status_code == 304


async def test_what_is_not_offered_is_told(client: httpx.AsyncClient, network: Json) -> None:
    url = network["links"]["self"] + "/weights"

    problem(await client.get(url, params={"format": "pickle"}), 406, "not_acceptable")
    problem(await client.get(url, headers={"Accept": "text/html"}), 406, "not_acceptable")


@pytest.mark.parametrize("wanted", ["npz", "safetensors", "onnx"])
async def test_a_file_comes_back_as_a_network_and_as_a_version(
    client: httpx.AsyncClient, train: Train, wanted: str
) -> None:
    if wanted == "onnx":
        pytest.importorskip("onnx")
    name = await trained(client, train)
    file = await client.get(f"/v1/networks/{name}/weights", params={"format": wanted})
    kind = {"Content-Type": FORMATS[wanted]}

    made = await client.post("/v1/networks/import", content=file.content, headers=kind)
    put = await client.put(f"/v1/networks/{name}/weights", content=file.content, headers=kind)

    assert made.status_code == 201, made.text
    assert made.json()["import_report"]["format"] == wanted
    assert put.status_code == 201, put.text
    body = {"inputs": ROWS.tolist()}
    first = (await client.post(f"/v1/networks/{name}/versions/1/classify", json=body)).json()
    second = (await client.post(f"/v1/networks/{made.json()['id']}/classify", json=body)).json()
    assert [p["label"] for p in first["predictions"]] == [p["label"] for p in second["predictions"]]
    for one, other in zip(first["predictions"], second["predictions"], strict=True):
        assert np.allclose(one["probabilities"], other["probabilities"], atol=1e-6)


async def test_a_yes_or_no_network_comes_back_from_onnx_with_its_labels(
    client: httpx.AsyncClient,
) -> None:
    pytest.importorskip("onnx")
    layers = [{"type": "dense", "units": 1, "activation": "sigmoid"}]
    body = {"input_shape": [2], "layers": layers, "labels": ["no", "yes"], "seed": 4}
    path = (await client.post("/v1/networks", json=body)).json()["links"]["self"]
    file = await client.get(f"{path}/weights?format=onnx")
    kind = {"Content-Type": "application/onnx"}

    made = await client.post("/v1/networks/import", content=file.content, headers=kind)

    assert made.status_code == 201, made.text
    assert made.json()["labels"] == ["no", "yes"]
    rows = {"inputs": [[1.0, -2.0], [-1.0, 2.0]]}
    first = (await client.post(f"{path}/classify", json=rows)).json()["predictions"]
    other = f"{made.json()['links']['self']}/classify"
    second = (await client.post(other, json=rows)).json()["predictions"]
    assert [one["label"] for one in first] == [one["label"] for one in second]
    assert {one["label"] for one in first} == {"no", "yes"}


async def test_onnx_runs_elsewhere_and_says_how_it_was_checked(
    client: httpx.AsyncClient, train: Train
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    name = await trained(client, train)

    answer = await client.get(f"/v1/networks/{name}/weights?format=onnx")

    assert float(answer.headers["neurond-export-difference"]) < 1e-5
    assert float(answer.headers["neurond-export-label-agreement"]) == 1.0
    session = runtime.InferenceSession(answer.content, providers=["CPUExecutionProvider"])
    outputs, labels = session.run(None, {"input": ROWS.astype(np.float32)})
    body = {"inputs": ROWS.astype(np.float32).tolist()}
    told = (await client.post(f"/v1/networks/{name}/classify", json=body)).json()["predictions"]
    assert np.allclose(outputs, [row["probabilities"] for row in told], atol=1e-6)
    assert list(labels) == [row["label"] for row in told]


def graph(nodes: list[Any], constants: dict[str, Any], outputs: list[str]) -> bytes:
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    kind = onnx.TensorProto.FLOAT
    made = helper.make_graph(
        [helper.make_node(*node[:3], **node[3]) for node in nodes],
        "g",
        [helper.make_tensor_value_info("x", kind, [None, 3])],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    data: bytes = helper.make_model(made).SerializeToString()
    return data


WEIGHTS: dict[str, Any] = {
    "w0": np.arange(6, dtype=np.float32).reshape(2, 3) / 10,
    "b0": np.array([0.1, -0.2], np.float32),
    "w1": np.array([[1.0, -1.0], [0.5, 0.25]], np.float32),
    "b1": np.array([0.0, 0.3], np.float32),
}


async def import_model(client: httpx.AsyncClient, data: bytes) -> Json:
    kind = {"Content-Type": "application/onnx"}
    answer = await client.post("/v1/networks/import", content=data, headers=kind)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def outputs(client: httpx.AsyncClient, network: Json, rows: Any) -> Any:
    body = {"inputs": rows.tolist()}
    return (await client.post(f"/v1/networks/{network['id']}/predict", json=body)).json()["outputs"]


def by_hand(rows: Any) -> Any:
    hidden = np.maximum(rows @ WEIGHTS["w0"].T + WEIGHTS["b0"], 0)
    z = hidden @ WEIGHTS["w1"].T + WEIGHTS["b1"]
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


async def test_pytorchs_export_is_read(client: httpx.AsyncClient) -> None:
    data = graph(
        [
            ("Flatten", ["x"], ["f"], {}),
            ("Gemm", ["f", "w0", "b0"], ["h"], {"transB": 1}),
            ("Relu", ["h"], ["a"], {}),
            ("Dropout", ["a"], ["d"], {}),
            ("Gemm", ["d", "w1", "b1"], ["z"], {"transB": 1}),
            ("Softmax", ["z"], ["y"], {"axis": 1}),
        ],
        WEIGHTS,
        ["y"],
    )

    made = await import_model(client, data)

    rows = np.random.default_rng(1).normal(size=(5, 3))
    assert np.allclose(await outputs(client, made, rows), by_hand(rows), atol=1e-6)
    assert "the file names no classes" in made["import_report"]["notes"]


async def test_scikit_learns_export_with_scaler_and_labels_is_read(
    client: httpx.AsyncClient,
) -> None:
    turned = {"w0": WEIGHTS["w0"].T.copy(), "w1": WEIGHTS["w1"].T.copy()}
    biases = {"b0": WEIGHTS["b0"].reshape(1, -1), "b1": WEIGHTS["b1"].reshape(1, -1)}
    scaler = {"domain": "ai.onnx.ml", "offset": [1.0, 2.0, 3.0], "scale": [0.5, 0.25, 2.0]}
    data = graph(
        [
            ("Scaler", ["x"], ["s"], scaler),
            ("Cast", ["s"], ["c"], {"to": 1}),
            ("MatMul", ["c", "w0"], ["m0"], {}),
            ("Add", ["m0", "b0"], ["h"], {}),
            ("Relu", ["h"], ["a"], {}),
            ("MatMul", ["a", "w1"], ["m1"], {}),
            ("Add", ["m1", "b1"], ["z"], {}),
            ("Softmax", ["z"], ["p"], {"axis": -1}),
            ("ArgMax", ["p"], ["i"], {"axis": 1}),
            ("ArrayFeatureExtractor", ["classes", "i"], ["l"], {"domain": "ai.onnx.ml"}),
        ],
        {**turned, **biases, "classes": np.array([7, 9])},
        ["l", "p"],
    )

    made = await import_model(client, data)

    assert made["labels"] == ["7", "9"]
    rows = np.random.default_rng(2).normal(size=(5, 3))
    scaled = (rows - [1.0, 2.0, 3.0]) * [0.5, 0.25, 2.0]
    assert np.allclose(await outputs(client, made, rows), by_hand(scaled), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("application/onnx", b"junk" * 10, "validation_failed"),
        ("application/x-npz", b"PK", "validation_failed"),
        ("application/vnd.safetensors", b"\xff" * 64, "validation_failed"),
    ],
)
async def test_files_that_cannot_be_read_are_refused(
    client: httpx.AsyncClient, kind: str, body: bytes, code: str
) -> None:
    if "onnx" in kind:
        pytest.importorskip("onnx")
    answer = await client.post("/v1/networks/import", content=body, headers={"Content-Type": kind})

    problem(answer, 422, code)


async def test_other_files_are_not_taken(client: httpx.AsyncClient) -> None:
    kind = {"Content-Type": "application/x-pickle"}
    answer = await client.post("/v1/networks/import", content=b"x", headers=kind)

    problem(answer, 415, "unsupported_media_type")


async def test_weights_fit_by_their_dense_layers_and_say_what_was_not_taken(
    client: httpx.AsyncClient,
) -> None:
    def body(slope: float, *silent: float, dtype: str = "float32") -> Json:
        leaky = {"type": "dense", "units": 4, "activation": "leaky_relu", "negative_slope": slope}
        drop = [{"type": "dropout", "rate": rate} for rate in silent]
        last = {"type": "dense", "units": 2, "activation": "softmax"}
        return {"input_shape": [3], "layers": [leaky, *drop, last], "dtype": dtype}

    async def document(asked: Json) -> Json:
        made = (await client.post("/v1/networks", json=asked)).json()
        told: Json = (await client.get(made["links"]["weights"])).json()
        return told

    home = (await client.post("/v1/networks", json=body(0.1, 0.2))).json()["links"]["weights"]
    labelled = {**body(0.1, 0.3, dtype="float64"), "labels": ["a", "b"]}

    plain = await client.put(home, json=await document(body(0.1)))
    same = await client.put(home, json=await document(body(0.1, 0.2)))
    other = await client.put(home, json=await document(labelled))
    steep = await client.put(home, json=await document(body(0.9, 0.2)))

    assert plain.json()["notes"] == same.json()["notes"] == []
    assert [note.split()[1] for note in other.json()["notes"]] == ["labels", "numbers", "dropout"]
    problem(steep, 422, "validation_failed", "/layers/0")


async def test_an_npz_of_somebody_elses_becomes_a_network(client: httpx.AsyncClient) -> None:
    stream = io.BytesIO()
    np.savez(stream, w0=np.ones((2, 3)), b0=np.zeros(3), w1=np.ones((3, 1)), b1=np.zeros(1))

    answer = await client.post(
        "/v1/networks/import?name=theirs",
        content=stream.getvalue(),
        headers={"Content-Type": "application/x-npz"},
    )

    assert answer.status_code == 201, answer.text
    assert answer.json()["dtype"] == "float64"


async def test_a_film_of_the_plane_comes_as_events(client: httpx.AsyncClient) -> None:
    layers = [
        {"type": "dense", "units": 3, "activation": "tanh"},
        {"type": "dense", "units": 1, "activation": "sigmoid"},
    ]
    name = (await client.post("/v1/networks", json={"input_shape": [2], "layers": layers})).json()
    data = (await client.post("/v1/datasets", json={"builtin": "moons", "samples": 60})).json()
    boundary = {"resolution": 8, "x": [-2, 3], "y": [-2, 2]}
    training = {"epochs": 200, "boundary": boundary}
    body = {"network": name["id"], "dataset": data["id"], "training": training}

    job = (await client.post("/v1/jobs", json=body)).json()
    assert (await ended(client, job["id"]))["status"] == "succeeded"
    frames: list[Json] = []
    after = "0"
    while True:
        headers = {"Accept": "application/json", "Last-Event-ID": after}
        page = (await client.get(f"/v1/jobs/{job['id']}/events?limit=500", headers=headers)).json()
        frames += [event["data"] for event in page["data"] if event["type"] == "boundary"]
        if not page["has_more"]:
            break
        after = str(page["data"][-1]["id"])

    assert [frame["epoch"] for frame in frames] == [1, *range(2, 201, 2)]
    assert [len(layer) for layer in frames[0]["layers"]] == [3, 1]
    wide = (await client.post("/v1/networks", json={"input_shape": [25], "layers": LAYERS})).json()
    answer = await client.post("/v1/jobs", json={**body, "network": wide["id"]})
    problem(answer, 422, "validation_failed")


async def test_a_promoted_checkpoint_is_itself_while_its_job_goes_on(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": {"epochs": 100_000}}
    job = (await client.post("/v1/jobs", json=body)).json()["id"]
    await until(client, job, "running")
    taken = await client.post(f"/v1/jobs/{job}/checkpoints")
    assert taken.status_code in {200, 201, 202}, taken.text
    checkpoints: list[Json] = []
    while not checkpoints:
        checkpoints = (await client.get(f"/v1/jobs/{job}/checkpoints")).json()["data"]
    promoted = await client.post(f"/v1/jobs/{job}/checkpoints/{checkpoints[0]['id']}/promote")
    version = promoted.json()

    path = f"/v1/networks/{network['id']}/versions/{version['version']}/weights"
    told = [json.loads((await client.get(path)).content)["sha256"] for _ in range(3)]

    assert set(told) == {version["weights_sha256"]}
    await client.post(f"/v1/jobs/{job}/cancel")
    await ended(client, job)


@pytest.mark.parametrize(
    "nodes",
    [
        [("Identity", ["x"], ["x"], {})],
        [("MatMul", ["x", "x"], ["y"], {})],
        [("Identity", ["x"], ["a"], {}), ("Identity", ["a"], ["x"], {})],
        [("Gemm", ["x", "w0", "b0"], ["z"], {"transB": 1}), ("Softmax", ["z"], ["y"], {"axis": 0})],
    ],
)
async def test_graphs_that_are_no_chain_of_layers_are_refused(
    client: httpx.AsyncClient, nodes: list[Any]
) -> None:
    data = graph(nodes, WEIGHTS, [nodes[-1][2][0]])
    kind = {"Content-Type": "application/onnx"}

    answer = await client.post("/v1/networks/import", content=data, headers=kind)

    problem(answer, 422, "validation_failed")


async def test_steps_before_the_first_layer_are_folded_in_their_order(
    client: httpx.AsyncClient,
) -> None:
    constants = {
        **WEIGHTS,
        "d": np.array([2.0], np.float32),
        "m": np.array([0.5, 1.0, 1.5], np.float32),
        "k": np.array([4.0, 2.0, 1.0], np.float32),
        "s": np.array([-1, 2], np.int64),
    }
    data = graph(
        [
            ("Div", ["x", "d"], ["x1"], {}),
            ("Sub", ["x1", "m"], ["x2"], {}),
            ("Mul", ["x2", "k"], ["x3"], {}),
            ("Reshape", ["x3", "s"], ["x4"], {}),
            ("Gemm", ["x4", "w0", "b0"], ["h"], {"transB": 1}),
            ("Relu", ["h"], ["a"], {}),
            ("Gemm", ["a", "w1", "b1"], ["z"], {"transB": 1}),
            ("Softmax", ["z"], ["y"], {}),
        ],
        constants,
        ["y"],
    )

    made = await import_model(client, data)

    assert made["labels"] != ["-1", "2"]
    rows = np.random.default_rng(3).normal(size=(5, 3))
    scaled = (rows / 2.0 - [0.5, 1.0, 1.5]) * [4.0, 2.0, 1.0]
    assert np.allclose(await outputs(client, made, rows), by_hand(scaled), atol=1e-6)


async def test_a_key_of_an_import_looks_at_the_file(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/x-npz", "Idempotency-Key": "import-1"}
    files = []
    for value in (1.0, 2.0):
        stream = io.BytesIO()
        np.savez(stream, w=np.full((2, 1), value), b=np.zeros(1))
        files.append(stream.getvalue())

    first = await client.post("/v1/networks/import", content=files[0], headers=headers)
    again = await client.post("/v1/networks/import", content=files[0], headers=headers)
    other = await client.post("/v1/networks/import", content=files[1], headers=headers)

    assert again.json() == first.json()
    problem(other, 422, "idempotency_key_reused")


def flipped(data: bytes, count: int) -> list[bytes]:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        changed = bytearray(data)
        for at in generator.integers(0, len(data), 3):
            changed[at] = generator.integers(0, 256)
        found.append(bytes(changed))
    return found


@pytest.mark.parametrize("wanted", ["npz", "safetensors", "onnx"])
async def test_damaged_files_never_break_the_server(
    client: httpx.AsyncClient, network: Json, wanted: str
) -> None:
    if wanted == "onnx":
        pytest.importorskip("onnx")
    url = network["links"]["self"] + "/weights"
    data = (await client.get(url, params={"format": wanted})).content

    for body in flipped(data, 150):
        answer = await client.put(
            url, content=body, headers={"Content-Type": FORMATS[wanted]}, params={"dry_run": "true"}
        )
        assert answer.status_code in {200, 400, 422}, answer.text
