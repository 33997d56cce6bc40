"""The KServe V1 protocol and the REST API of TensorFlow Serving."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.protocols.conftest import LABELS, World

PREDICT = "/v1/models/digits:predict"


def check_error(response: httpx.Response, status: int = 400) -> None:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}


ZEROS = b"[" + b"0," * 24 + b"0]"


def test_rows_and_named_rows_give_predictions(world: World) -> None:
    for instances in (world.rows.tolist(), [{"input": row} for row in world.rows.tolist()]):
        response = world.client.post(PREDICT, json={"instances": instances})
        assert np.array_equal(np.array(response.json()["predictions"]), world.outputs)


def test_rows_of_concurrent_requests_are_counted_once(world: World) -> None:
    def counted() -> float:
        lines = world.client.get("/metrics").text.splitlines()
        return float(
            next(line for line in lines if line.startswith("neurond_rows_answered")).split()[1]
        )

    before = counted()
    body = {"instances": np.zeros((5000, 25)).tolist()}
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: world.client.post(PREDICT, json=body), range(4)))

    assert [response.status_code for response in responses] == [200] * 4
    assert counted() - before == 4 * 5000


def test_inputs_give_outputs(world: World) -> None:
    for inputs in (world.rows.tolist(), {"input": world.rows.tolist()}):
        body = {"signature_name": "serving_default", "inputs": inputs}
        response = world.client.post(PREDICT, json=body)
        assert np.array_equal(np.array(response.json()["outputs"]), world.outputs)


@pytest.mark.parametrize("reference", ["/versions/0", "/labels/first", "/labels/latest"])
def test_a_path_may_name_a_version_or_a_label(world: World, reference: str) -> None:
    path = f"/v1/models/digits{reference}"

    response = world.client.post(f"{path}:predict", json={"instances": world.rows.tolist()})

    assert np.array_equal(np.array(response.json()["predictions"]), world.outputs)
    assert world.client.get(path).json()["ready"] is True


def test_classify_returns_labels_with_scores_in_descending_order(world: World) -> None:
    examples = [{"input": row} for row in world.rows.tolist()]

    results = world.client.post("/v1/models/digits:classify", json={"examples": examples}).json()[
        "results"
    ]

    assert len(results) == 7
    label, score = results[0][0]
    assert label == LABELS[world.outputs[0].argmax()]
    assert score == world.outputs[0].max()
    assert [entry[1] for entry in results[0]] == sorted(world.outputs[0], reverse=True)
    check_error(world.client.post("/v1/models/line:classify", json={"examples": examples}))


def test_regress_returns_one_number_for_each_example(world: World) -> None:
    body = {"context": {"input": [1.0, 2.0, 3.0]}, "examples": [{}, {"input": [0, 0, 0]}]}

    results = world.client.post("/v1/models/line:regress", json=body).json()["results"]

    native = world.client.post("/v1/networks/line/predict", json={"inputs": [[1, 2, 3], [0, 0, 0]]})
    assert results == [row[0] for row in native.json()["outputs"]]
    check_error(world.client.post("/v1/models/digits:regress", json={"examples": []}))


def test_models_have_a_status_and_a_signature(world: World) -> None:
    assert {"digits", "line", "coin"} <= set(world.client.get("/v1/models").json()["models"])
    status = world.client.get("/v1/models/digits").json()
    assert status["ready"] is True
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    metadata = world.client.get("/v1/models/digits/metadata").json()
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    sizes = [part["size"] for part in signature["inputs"]["input"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "25"]
    assert signature["inputs"]["input"]["dtype"] == "DT_FLOAT"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"instances": [[1]], "inputs": [[1]]}',
        b'{"instances": [[1]]}',
        b'{"instances": [["1"]]}',
        b'{"instances": [{"x": [1]}]}',
        b'{"instances": [NaN]}',
        b'{"instances": [], "signature_name": "other"}',
        b'{"instances": []}',
        b'{"instances": 5}',
        b'{"unknown": 5}',
        b'{"instances": [%s], "instances": [%s]}' % (ZEROS, ZEROS),
        b'{"instances": [{"input": %s, "input": %s}]}' % (ZEROS, ZEROS),
        b'{"inputs": {"input": [%s], "\\u0069nput": [%s]}}' % (ZEROS, ZEROS),
    ],
)
def test_an_invalid_body_is_rejected(world: World, body: bytes) -> None:
    check_error(world.client.post(PREDICT, content=body))


def test_unknown_models_and_methods_are_reported(world: World) -> None:
    body = json.dumps({"instances": world.rows.tolist()}).encode()
    check_error(world.client.post("/v1/models/missing:predict", content=body), 404)
    check_error(world.client.get("/v1/models/missing"), 404)
    check_error(world.client.post("/v1/models/digits:explode", content=body), 405)
    unsupported = world.client.put("/v1/models/digits:predict", content=body)
    check_error(unsupported, 405)
    assert unsupported.headers["allow"] == "POST"
