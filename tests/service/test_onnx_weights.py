"""ONNX files of this service, PyTorch and scikit-learn."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.conftest import (
    Json,
    Train,
    create_trained_network,
    problem,
)

ROWS = np.random.default_rng(1).random((6, 25))


async def test_a_binary_classifier_is_reimported_from_onnx_with_its_labels(
    client: httpx.AsyncClient,
) -> None:
    pytest.importorskip("onnx")
    layers = [{"type": "dense", "units": 1, "activation": "sigmoid"}]
    body = {"input_shape": [2], "layers": layers, "labels": ["no", "yes"], "seed": 4}
    path = (await client.post("/v1/networks", json=body)).json()["links"]["self"]
    file = await client.get(f"{path}/weights?format=onnx")
    headers = {"Content-Type": "application/onnx"}

    imported = await client.post("/v1/networks/import", content=file.content, headers=headers)

    assert imported.status_code == 201, imported.text
    assert imported.json()["labels"] == ["no", "yes"]
    rows = {"inputs": [[1.0, -2.0], [-1.0, 2.0]]}
    first = (await client.post(f"{path}/classify", json=rows)).json()["predictions"]
    url = f"{imported.json()['links']['self']}/classify"
    second = (await client.post(url, json=rows)).json()["predictions"]
    assert [prediction["label"] for prediction in first] == [
        prediction["label"] for prediction in second
    ]
    assert {prediction["label"] for prediction in first} == {"no", "yes"}


async def test_exported_onnx_gives_the_same_predictions_in_onnxruntime(
    client: httpx.AsyncClient, train: Train
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    name = await create_trained_network(client, train)

    response = await client.get(f"/v1/networks/{name}/weights?format=onnx")

    assert float(response.headers["neurond-export-difference"]) < 1e-5
    assert float(response.headers["neurond-export-label-agreement"]) == 1.0
    session = runtime.InferenceSession(response.content, providers=["CPUExecutionProvider"])
    outputs, labels = session.run(None, {"input": ROWS.astype(np.float32)})
    body = {"inputs": ROWS.astype(np.float32).tolist()}
    predictions = (await client.post(f"/v1/networks/{name}/classify", json=body)).json()[
        "predictions"
    ]
    assert np.allclose(outputs, [row["probabilities"] for row in predictions], atol=1e-6)
    assert list(labels) == [row["label"] for row in predictions]


def graph(nodes: list[Any], constants: dict[str, Any], outputs: list[str]) -> bytes:
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    kind = onnx.TensorProto.FLOAT
    model_graph = helper.make_graph(
        [helper.make_node(*node[:3], **node[3]) for node in nodes],
        "g",
        [helper.make_tensor_value_info("x", kind, [None, 3])],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    data: bytes = helper.make_model(model_graph).SerializeToString()
    return data


WEIGHTS: dict[str, Any] = {
    "w0": np.arange(6, dtype=np.float32).reshape(2, 3) / 10,
    "b0": np.array([0.1, -0.2], np.float32),
    "w1": np.array([[1.0, -1.0], [0.5, 0.25]], np.float32),
    "b1": np.array([0.0, 0.3], np.float32),
}


async def import_model(client: httpx.AsyncClient, data: bytes) -> Json:
    headers = {"Content-Type": "application/onnx"}
    response = await client.post("/v1/networks/import", content=data, headers=headers)
    assert response.status_code == 201, response.text
    network: Json = response.json()
    return network


async def outputs(client: httpx.AsyncClient, network: Json, rows: Any) -> Any:
    body = {"inputs": rows.tolist()}
    return (await client.post(f"/v1/networks/{network['id']}/predict", json=body)).json()["outputs"]


def expected_outputs(rows: Any) -> Any:
    hidden = np.maximum(rows @ WEIGHTS["w0"].T + WEIGHTS["b0"], 0)
    z = hidden @ WEIGHTS["w1"].T + WEIGHTS["b1"]
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


async def test_an_onnx_file_from_pytorch_is_imported(client: httpx.AsyncClient) -> None:
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

    network = await import_model(client, data)

    rows = np.random.default_rng(1).normal(size=(5, 3))
    assert np.allclose(await outputs(client, network, rows), expected_outputs(rows), atol=1e-6)
    assert "the file does not name the classes" in network["import_report"]["notes"]


async def test_an_onnx_file_from_scikit_learn_is_imported_with_scaler_and_labels(
    client: httpx.AsyncClient,
) -> None:
    transposed = {"w0": WEIGHTS["w0"].T.copy(), "w1": WEIGHTS["w1"].T.copy()}
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
        {**transposed, **biases, "classes": np.array([7, 9])},
        ["l", "p"],
    )

    network = await import_model(client, data)

    assert network["labels"] == ["7", "9"]
    rows = np.random.default_rng(2).normal(size=(5, 3))
    scaled = (rows - [1.0, 2.0, 3.0]) * [0.5, 0.25, 2.0]
    assert np.allclose(await outputs(client, network, rows), expected_outputs(scaled), atol=1e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        [("Identity", ["x"], ["x"], {})],
        [("MatMul", ["x", "x"], ["y"], {})],
        [("Identity", ["x"], ["a"], {}), ("Identity", ["a"], ["x"], {})],
        [("Gemm", ["x", "w0", "b0"], ["z"], {"transB": 1}), ("Softmax", ["z"], ["y"], {"axis": 0})],
    ],
)
async def test_graphs_that_are_not_a_chain_of_layers_are_rejected(
    client: httpx.AsyncClient, nodes: list[Any]
) -> None:
    data = graph(nodes, WEIGHTS, [nodes[-1][2][0]])
    headers = {"Content-Type": "application/onnx"}

    response = await client.post("/v1/networks/import", content=data, headers=headers)

    problem(response, 422, "validation_failed")


async def test_steps_before_the_first_layer_are_applied_in_order(
    client: httpx.AsyncClient,
) -> None:
    constants = {
        **WEIGHTS,
        "d": np.array([2.0], np.float32),
        "m": np.array([0.5, 1.0, 1.5], np.float32),
        "k": np.array([4.0, 2.0, 1.0], np.float32),
        "s": np.array([-1, 3], np.int64),
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

    network = await import_model(client, data)

    assert network["labels"] != ["-1", "3"]
    rows = np.random.default_rng(3).normal(size=(5, 3))
    scaled = (rows / 2.0 - [0.5, 1.0, 1.5]) * [4.0, 2.0, 1.0]
    assert np.allclose(await outputs(client, network, rows), expected_outputs(scaled), atol=1e-6)
