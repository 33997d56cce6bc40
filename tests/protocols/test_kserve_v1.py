"""KServe's first protocol, and TensorFlow Serving's REST."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.protocols.conftest import LABELS, World

PREDICT = "/v1/models/digits:predict"


def refused(answer: httpx.Response, status: int = 400) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}


ZEROS = b"[" + b"0," * 24 + b"0]"


def test_rows_and_named_rows_are_answered_one_by_one(world: World) -> None:
    for instances in (world.rows.tolist(), [{"input": row} for row in world.rows.tolist()]):
        answer = world.client.post(PREDICT, json={"instances": instances})
        assert np.array_equal(np.array(answer.json()["predictions"]), world.outputs)


def test_rows_that_are_answered_side_by_side_are_counted_once(world: World) -> None:
    def counted() -> float:
        lines = world.client.get("/metrics").text.splitlines()
        return float(next(x for x in lines if x.startswith("neurond_rows_answered")).split()[1])

    before = counted()
    body = {"instances": np.zeros((5000, 25)).tolist()}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: world.client.post(PREDICT, json=body), range(4)))

    assert [answer.status_code for answer in answers] == [200] * 4
    assert counted() - before == 4 * 5000


def test_columns_are_answered_as_columns(world: World) -> None:
    for inputs in (world.rows.tolist(), {"input": world.rows.tolist()}):
        body = {"signature_name": "serving_default", "inputs": inputs}
        answer = world.client.post(PREDICT, json=body)
        assert np.array_equal(np.array(answer.json()["outputs"]), world.outputs)


@pytest.mark.parametrize("place", ["/versions/0", "/labels/first", "/labels/latest"])
def test_versions_and_labels_are_named_in_the_path(world: World, place: str) -> None:
    path = f"/v1/models/digits{place}"

    answer = world.client.post(f"{path}:predict", json={"instances": world.rows.tolist()})

    assert np.array_equal(np.array(answer.json()["predictions"]), world.outputs)
    assert world.client.get(path).json()["ready"] is True


def test_classify_tells_labels_with_scores_best_first(world: World) -> None:
    examples = [{"input": row} for row in world.rows.tolist()]

    results = world.client.post("/v1/models/digits:classify", json={"examples": examples}).json()[
        "results"
    ]

    assert len(results) == 7
    label, score = results[0][0]
    assert label == LABELS[world.outputs[0].argmax()]
    assert score == world.outputs[0].max()
    assert [entry[1] for entry in results[0]] == sorted(world.outputs[0], reverse=True)
    refused(world.client.post("/v1/models/line:classify", json={"examples": examples}))


def test_regress_tells_one_number_for_each_example(world: World) -> None:
    body = {"context": {"input": [1.0, 2.0, 3.0]}, "examples": [{}, {"input": [0, 0, 0]}]}

    results = world.client.post("/v1/models/line:regress", json=body).json()["results"]

    native = world.client.post("/v1/networks/line/predict", json={"inputs": [[1, 2, 3], [0, 0, 0]]})
    assert results == [row[0] for row in native.json()["outputs"]]
    refused(world.client.post("/v1/models/digits:regress", json={"examples": []}))


def test_status_and_metadata(world: World) -> None:
    assert {"digits", "line", "coin"} <= set(world.client.get("/v1/models").json()["models"])
    status = world.client.get("/v1/models/digits").json()
    assert status["ready"] is True
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    told = world.client.get("/v1/models/digits/metadata").json()
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
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
def test_what_cannot_be_used_is_refused(world: World, body: bytes) -> None:
    refused(world.client.post(PREDICT, content=body))


def test_unknown_models_and_methods_are_told(world: World) -> None:
    body = json.dumps({"instances": world.rows.tolist()}).encode()
    refused(world.client.post("/v1/models/nobody:predict", content=body), 404)
    refused(world.client.get("/v1/models/nobody"), 404)
    refused(world.client.post("/v1/models/digits:explode", content=body), 405)
    unspoken = world.client.put("/v1/models/digits:predict", content=body)
    refused(unspoken, 405)
    assert unspoken.headers["allow"] == "POST"
