"""The Open Inference Protocol over a real socket."""

import gzip
import json
import struct
import zlib

import numpy as np
import pytest

from tests.protocols.conftest import LABELS, World
from tests.protocols.open_inference import (
    INFER,
    LENGTH,
    binary,
    check_error,
    output_of,
    parts,
    tensor,
)


def test_server_metadata_lists_the_extensions(world: World) -> None:
    for path in ("/v2", "/v2/"):
        body = world.client.get(path).json()
        assert body["name"] == "neurond"
        assert set(body["extensions"]) == {
            "binary_tensor_data",
            "statistics",
            "model_repository",
            "classification",
            "model_configuration",
        }


def test_health_and_readiness_are_reported(world: World) -> None:
    assert world.client.get("/v2/health/live").json() == {"live": True}
    assert world.client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    assert world.client.get("/v2/models/digits/ready").json() == {"name": "digits", "ready": True}
    assert world.client.get("/v2/models/digits/versions/0/ready").status_code == 200
    check_error(world.client.get("/v2/models/digits/versions/99/ready"), 404)
    check_error(world.client.get("/v2/models/missing/ready"), 404)


def test_model_metadata_lists_tensors_and_versions(world: World) -> None:
    body = world.client.get("/v2/models/digits").json()

    assert body["versions"] == ["0", "1"]
    assert body["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 25]}]
    assert body["outputs"] == [
        {"name": "output", "datatype": "FP32", "shape": [-1, 10]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
    ]
    line = world.client.get("/v2/models/line/versions/0").json()
    assert line["inputs"][0]["datatype"] == "FP64"
    assert [part["name"] for part in line["outputs"]] == ["output"]


def test_the_model_configuration_has_the_format_of_triton(world: World) -> None:
    body = world.client.get("/v2/models/digits/config").json()

    assert body["name"] == "digits"
    assert body["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": [25]}]
    assert body["output"][1] == {"name": "label", "data_type": "TYPE_STRING", "dims": [1]}


@pytest.mark.parametrize("nested", [True, False])
def test_json_outputs_equal_the_outputs_of_the_native_api(world: World, nested: bool) -> None:
    sent = tensor(world.rows)
    if not nested:
        sent["data"] = world.rows.ravel().tolist()

    response = world.client.post(INFER, json={"id": "größe-1", "inputs": [sent]})

    assert response.json()["id"] == "größe-1"
    assert response.json()["model_name"] == "digits"
    assert response.json()["model_version"] == "1"
    output = output_of(response)
    assert (output["shape"], output["datatype"]) == ([7, 10], "FP32")
    assert np.array_equal(np.array(output["data"]).reshape(7, 10), world.outputs)
    best = [LABELS[index] for index in world.outputs.argmax(axis=1)]
    assert output_of(response, "label") == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [7],
        "data": best,
    }


def test_a_response_to_a_request_without_id_has_no_id_and_no_null(world: World) -> None:
    response = world.client.post(INFER, json={"inputs": [tensor(world.rows)]})

    assert "id" not in response.json()
    assert "null" not in response.text


def test_a_path_may_name_a_version_an_alias_or_live(world: World) -> None:
    for version in ("0", "first", "latest", "live"):
        path = f"/v2/models/digits/versions/{version}/infer"
        response = world.client.post(path, json={"inputs": [tensor(world.rows)]})
        assert np.array_equal(np.array(output_of(response)["data"]).reshape(7, 10), world.outputs)


def test_requested_outputs_are_returned_in_their_order(world: World) -> None:
    requested = [{"name": "label"}, {"name": "output"}]
    body = {"inputs": [tensor(world.rows)], "outputs": requested}

    names = [part["name"] for part in world.client.post(INFER, json=body).json()["outputs"]]

    assert names == ["label", "output"]
    check_error(world.client.post(INFER, json={**body, "outputs": [{"name": "nothing"}]}))
    line = {"inputs": [tensor(np.zeros((1, 3)))], "outputs": [{"name": "label"}]}
    check_error(world.client.post("/v2/models/line/infer", json=line))


def test_binary_outputs_equal_the_outputs_of_the_native_api(world: World) -> None:
    body, headers = binary(
        world.rows, "<f4", "FP32", parameters={"binary_data_output": True}, id="b"
    )

    response = world.client.post(INFER, content=body, headers=headers)

    head, tail = parts(response)
    assert response.headers["content-type"] == "application/octet-stream"
    output, label = head["outputs"]
    size = output["parameters"]["binary_data_size"]
    assert "data" not in output
    assert np.array_equal(np.frombuffer(tail[:size], "<f4").reshape(7, 10), world.outputs)
    labels, rest = [], tail[size : size + label["parameters"]["binary_data_size"]]
    while rest:
        length = struct.unpack("<I", rest[:4])[0]
        labels.append(rest[4 : 4 + length].decode())
        rest = rest[4 + length :]
    assert labels == [LABELS[index] for index in world.outputs.argmax(axis=1)]


def test_the_parameter_of_an_output_overrides_that_of_the_request(world: World) -> None:
    body, headers = binary(
        world.rows,
        "<f4",
        "FP32",
        parameters={"binary_data_output": True},
        outputs=[{"name": "output", "parameters": {"binary_data": False}}],
    )

    response = world.client.post(INFER, content=body, headers=headers)

    assert LENGTH not in response.headers
    assert len(output_of(response)["data"]) == 70


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        ("BOOL", "?"),
        ("UINT8", "<u1"),
        ("UINT16", "<u2"),
        ("UINT32", "<u4"),
        ("UINT64", "<u8"),
        ("INT8", "<i1"),
        ("INT16", "<i2"),
        ("INT32", "<i4"),
        ("INT64", "<i8"),
        ("FP16", "<f2"),
        ("FP32", "<f4"),
        ("FP64", "<f8"),
    ],
)
def test_every_numeric_datatype_is_accepted(world: World, datatype: str, dtype: str) -> None:
    rows = np.random.default_rng(2).integers(0, 2, (3, 25))
    native = world.client.post("/v1/networks/digits/predict", json={"inputs": rows.tolist()})
    expected = np.array(native.json()["outputs"])
    body, headers = binary(rows, dtype, datatype)
    responses = [world.client.post(INFER, content=body, headers=headers)]
    if datatype != "FP16":
        sent = tensor(rows.astype(dtype), datatype)
        responses.append(world.client.post(INFER, json={"inputs": [sent]}))

    for response in responses:
        assert np.array_equal(np.array(output_of(response)["data"]).reshape(3, 10), expected)


def test_a_body_without_a_json_header_is_accepted(world: World) -> None:
    response = world.client.post(INFER, content=world.rows[:1].tobytes(), headers={LENGTH: "0"})

    head, tail = parts(response)
    assert all("data" not in output for output in head["outputs"])
    row = np.frombuffer(tail[:40], "<f4")
    assert np.allclose(row, world.outputs[0], atol=1e-6)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies_are_accepted_and_long_responses_compressed(
    world: World, encoding: str
) -> None:
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    rows = np.random.default_rng(3).random((200, 25))
    body = json.dumps({"inputs": [tensor(rows)]}).encode()

    response = world.client.post(
        INFER,
        content=compress(body),
        headers={"Content-Encoding": encoding, "Accept-Encoding": encoding},
    )

    assert response.headers["content-encoding"] == encoding
    assert output_of(response)["shape"] == [200, 10]


def test_classification_returns_value_index_and_label(world: World) -> None:
    requested = {"name": "output", "parameters": {"classification": 3}}

    response = world.client.post(
        INFER, json={"inputs": [tensor(world.rows)], "outputs": [requested]}
    )

    output = output_of(response)
    assert (output["datatype"], output["shape"]) == ("BYTES", [7, 3])
    value, index, label = output["data"][0].split(":")
    assert int(index) == world.outputs[0].argmax()
    assert label == LABELS[int(index)]
    assert np.float32(value) == np.float32(world.outputs[0].max())


def test_statistics_count_inferences_and_requests(world: World) -> None:
    def success() -> tuple[int, int]:
        body = world.client.get("/v2/models/coin/versions/0/stats").json()
        statistics = body["model_stats"][0]
        return statistics["inference_count"], statistics["inference_stats"]["success"]["count"]

    before = success()
    for _ in range(3):
        body = {"inputs": [tensor(np.zeros((2, 2)))]}
        assert world.client.post("/v2/models/coin/infer", json=body).status_code == 200
    after = success()

    assert (after[0] - before[0], after[1] - before[1]) == (6, 3)
    every = world.client.get("/v2/models/stats").json()["model_stats"]
    assert {"digits", "coin", "line"} <= {part["name"] for part in every}
    batches = world.client.get("/v2/models/coin/stats").json()["model_stats"][0]["batch_stats"]
    batch = next(part for part in batches if part["batch_size"] == 2)
    assert batch["compute_infer"]["count"] >= 3
    assert batch["compute_input"]["ns"] > 0


def test_the_repository_lists_loads_and_unloads_models(world: World) -> None:
    index = world.client.post("/v2/repository/index").json()
    assert {"name": "digits", "version": "1", "state": "READY", "reason": ""} in index

    assert world.client.post("/v2/repository/models/coin/unload", content=b"{}").status_code == 200
    body = {"inputs": [tensor(np.zeros((1, 2)))]}
    check_error(world.client.post("/v2/models/coin/infer", json=body))
    check_error(world.client.get("/v2/models/coin/ready"))
    ready = world.client.post("/v2/repository/index", json={"ready": True}).json()
    assert "coin" not in [part["name"] for part in ready]

    assert world.client.post("/v2/repository/models/coin/load").status_code == 200
    assert world.client.post("/v2/models/coin/infer", json=body).status_code == 200
    check_error(world.client.post("/v2/repository/models/missing/load"), 404)
