"""The Open Inference Protocol, statement by statement, over a real socket."""

import gzip
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from tests.protocols.conftest import LABELS, World

INFER = "/v2/models/digits/infer"
LENGTH = "Inference-Header-Content-Length"
Json = dict[str, Any]


def tensor(rows: Any, datatype: str = "FP32", **more: Any) -> Json:
    shape = list(np.shape(rows))
    return {"name": "input", "shape": shape, "datatype": datatype, "data": rows.tolist(), **more}


def told(answer: httpx.Response, name: str = "output") -> Json:
    assert answer.status_code == 200, answer.text
    found: Json = next(part for part in answer.json()["outputs"] if part["name"] == name)
    return found


def refused(answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert isinstance(body["error"], str)
    error: str = body["error"]
    return error


def test_metadata_tells_every_extension_that_works(world: World) -> None:
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


def test_health_answers_in_the_words_of_both_clients(world: World) -> None:
    assert world.client.get("/v2/health/live").json() == {"live": True}
    assert world.client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    assert world.client.get("/v2/models/digits/ready").json() == {"name": "digits", "ready": True}
    assert world.client.get("/v2/models/digits/versions/0/ready").status_code == 200
    refused(world.client.get("/v2/models/digits/versions/99/ready"), 404)
    refused(world.client.get("/v2/models/nobody/ready"), 404)


def test_model_metadata_tells_tensors_and_versions(world: World) -> None:
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


def test_configuration_is_told_in_tritons_form(world: World) -> None:
    body = world.client.get("/v2/models/digits/config").json()

    assert body["name"] == "digits"
    assert body["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": [25]}]
    assert body["output"][1] == {"name": "label", "data_type": "TYPE_STRING", "dims": [1]}


@pytest.mark.parametrize("nested", [True, False])
def test_json_is_answered_with_exactly_the_engines_numbers(world: World, nested: bool) -> None:
    sent = tensor(world.rows)
    if not nested:
        sent["data"] = world.rows.ravel().tolist()

    answer = world.client.post(INFER, json={"id": "größe-1", "inputs": [sent]})

    assert answer.json()["id"] == "größe-1"
    assert answer.json()["model_name"] == "digits"
    assert answer.json()["model_version"] == "1"
    output = told(answer)
    assert (output["shape"], output["datatype"]) == ([7, 10], "FP32")
    assert np.array_equal(np.array(output["data"]).reshape(7, 10), world.outputs)
    best = [LABELS[at] for at in world.outputs.argmax(axis=1)]
    assert told(answer, "label") == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [7],
        "data": best,
    }


def test_no_id_is_answered_without_one_and_no_member_is_null(world: World) -> None:
    answer = world.client.post(INFER, json={"inputs": [tensor(world.rows)]})

    assert "id" not in answer.json()
    assert "null" not in answer.text


def test_a_path_may_name_a_version_an_alias_or_live(world: World) -> None:
    for version in ("0", "first", "latest", "live"):
        path = f"/v2/models/digits/versions/{version}/infer"
        answer = world.client.post(path, json={"inputs": [tensor(world.rows)]})
        assert np.array_equal(np.array(told(answer)["data"]).reshape(7, 10), world.outputs)


def test_outputs_come_as_asked_and_in_that_order(world: World) -> None:
    asked = [{"name": "label"}, {"name": "output"}]
    body = {"inputs": [tensor(world.rows)], "outputs": asked}

    names = [part["name"] for part in world.client.post(INFER, json=body).json()["outputs"]]

    assert names == ["label", "output"]
    refused(world.client.post(INFER, json={**body, "outputs": [{"name": "nothing"}]}))
    line = {"inputs": [tensor(np.zeros((1, 3)))], "outputs": [{"name": "label"}]}
    refused(world.client.post("/v2/models/line/infer", json=line))


def binary(rows: Any, kind: str, datatype: str, **more: Any) -> tuple[bytes, dict[str, str]]:
    data = np.asarray(rows).astype(kind).tobytes()
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "input",
                    "shape": list(np.shape(rows)),
                    "datatype": datatype,
                    "parameters": {"binary_data_size": len(data)},
                }
            ],
            **more,
        }
    ).encode()
    return head + data, {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def parts(answer: httpx.Response) -> tuple[Json, bytes]:
    assert answer.status_code == 200, answer.text
    length = int(answer.headers[LENGTH])
    return json.loads(answer.content[:length]), answer.content[length:]


def test_binary_in_and_out_carries_the_same_bits(world: World) -> None:
    body, headers = binary(
        world.rows, "<f4", "FP32", parameters={"binary_data_output": True}, id="b"
    )

    answer = world.client.post(INFER, content=body, headers=headers)

    head, tail = parts(answer)
    assert answer.headers["content-type"] == "application/octet-stream"
    output, label = head["outputs"]
    size = output["parameters"]["binary_data_size"]
    assert "data" not in output
    assert np.array_equal(np.frombuffer(tail[:size], "<f4").reshape(7, 10), world.outputs)
    words, rest = [], tail[size : size + label["parameters"]["binary_data_size"]]
    while rest:
        length = struct.unpack("<I", rest[:4])[0]
        words.append(rest[4 : 4 + length].decode())
        rest = rest[4 + length :]
    assert words == [LABELS[at] for at in world.outputs.argmax(axis=1)]


def test_an_outputs_own_wish_wins_over_the_requests(world: World) -> None:
    body, headers = binary(
        world.rows,
        "<f4",
        "FP32",
        parameters={"binary_data_output": True},
        outputs=[{"name": "output", "parameters": {"binary_data": False}}],
    )

    answer = world.client.post(INFER, content=body, headers=headers)

    assert LENGTH not in answer.headers
    assert len(told(answer)["data"]) == 70


@pytest.mark.parametrize(
    ("datatype", "kind"),
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
def test_every_datatype_of_numbers_is_taken(world: World, datatype: str, kind: str) -> None:
    rows = np.random.default_rng(2).integers(0, 2, (3, 25))
    native = world.client.post("/v1/networks/digits/predict", json={"inputs": rows.tolist()})
    expected = np.array(native.json()["outputs"])
    body, headers = binary(rows, kind, datatype)
    answers = [world.client.post(INFER, content=body, headers=headers)]
    if datatype != "FP16":
        sent = tensor(rows.astype(kind), datatype)
        answers.append(world.client.post(INFER, json={"inputs": [sent]}))

    for answer in answers:
        assert np.array_equal(np.array(told(answer)["data"]).reshape(3, 10), expected)


def test_a_body_that_is_nothing_but_the_tensor_is_taken(world: World) -> None:
    answer = world.client.post(INFER, content=world.rows[:1].tobytes(), headers={LENGTH: "0"})

    head, tail = parts(answer)
    assert all("data" not in output for output in head["outputs"])
    row = np.frombuffer(tail[:40], "<f4")
    assert np.allclose(row, world.outputs[0], atol=1e-6)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_packed_bodies_are_taken_and_long_answers_packed(world: World, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    rows = np.random.default_rng(3).random((200, 25))
    body = json.dumps({"inputs": [tensor(rows)]}).encode()

    answer = world.client.post(
        INFER,
        content=pack(body),
        headers={"Content-Encoding": encoding, "Accept-Encoding": encoding},
    )

    assert answer.headers["content-encoding"] == encoding
    assert told(answer)["shape"] == [200, 10]


def test_a_bomb_is_refused_before_it_is_unpacked(world: World) -> None:
    bomb = gzip.compress(b"0" * (300 << 20), compresslevel=9)

    answer = world.client.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"})

    refused(answer, 413)


def test_classification_tells_value_index_and_label(world: World) -> None:
    wish = {"name": "output", "parameters": {"classification": 3}}

    answer = world.client.post(INFER, json={"inputs": [tensor(world.rows)], "outputs": [wish]})

    output = told(answer)
    assert (output["datatype"], output["shape"]) == ("BYTES", [7, 3])
    value, index, label = output["data"][0].split(":")
    assert int(index) == world.outputs[0].argmax()
    assert label == LABELS[int(index)]
    assert np.float32(value) == np.float32(world.outputs[0].max())


def test_statistics_count_what_was_asked(world: World) -> None:
    def success() -> tuple[int, int]:
        body = world.client.get("/v2/models/coin/versions/0/stats").json()
        found = body["model_stats"][0]
        return found["inference_count"], found["inference_stats"]["success"]["count"]

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


def test_the_repository_lists_loads_and_unloads(world: World) -> None:
    index = world.client.post("/v2/repository/index").json()
    assert {"name": "digits", "version": "1", "state": "READY", "reason": ""} in index

    assert world.client.post("/v2/repository/models/coin/unload", content=b"{}").status_code == 200
    body = {"inputs": [tensor(np.zeros((1, 2)))]}
    refused(world.client.post("/v2/models/coin/infer", json=body))
    refused(world.client.get("/v2/models/coin/ready"))
    ready = world.client.post("/v2/repository/index", json={"ready": True}).json()
    assert "coin" not in [part["name"] for part in ready]

    assert world.client.post("/v2/repository/models/coin/load").status_code == 200
    assert world.client.post("/v2/models/coin/infer", json=body).status_code == 200
    refused(world.client.post("/v2/repository/models/nobody/load"), 404)


ROW = [0.0] * 25
GOOD = {"name": "input", "shape": [1, 25], "datatype": "FP32", "data": ROW}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"{}",
        json.dumps({"inputs": []}).encode(),
        json.dumps({"inputs": [GOOD, GOOD]}).encode(),
        json.dumps({"inputs": [{**GOOD, "name": "x"}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "shape": [25]}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "shape": [2, 25]}]}).encode(),
        json.dumps({"inputs": [GOOD], "outputs": [{"name": "output"}] * 100}).encode(),
        b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [%s, 25], "data": [1]}]}'
        % (b"9" * 4300),
        json.dumps({"inputs": [{**GOOD, "shape": [-1, 25]}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "shape": [True, 25]}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "shape": [10**30, 25]}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "datatype": "BYTES"}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "datatype": "fp32"}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "datatype": "FP16"}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "datatype": "INT8", "data": [300] * 25}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "datatype": "UINT8", "data": [-1] * 25}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "datatype": "INT32", "data": [0.5] * 25}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "data": ["1"] * 25}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "data": [True] * 25}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "data": [ROW, ROW]}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "data": [[[0.0] * 25]]}]}).encode(),
        json.dumps({"inputs": [{k: v for k, v in GOOD.items() if k != "data"}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "data": [float("nan")] * 25}]}).encode(),
        json.dumps({"inputs": [{**GOOD, "data": [1e308] * 25}]}).encode(),
        json.dumps({"id": 7, "inputs": [GOOD]}).encode(),
        json.dumps({"inputs": [GOOD], "parameters": {"binary_data_output": 1}}).encode(),
        json.dumps(
            {
                "inputs": [GOOD],
                "outputs": [{"name": "output", "parameters": {"classification": 0}}],
            }
        ).encode(),
        b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"inputs": [%s], "inputs": [%s]}' % (2 * (json.dumps(GOOD).encode(),)),
        b'{"inputs": [%s]}' % json.dumps(GOOD).replace("{", '{"name": "x",', 1).encode(),
        b'{"inputs": [%s]}' % json.dumps(GOOD).replace("{", '{"d\\u0061ta": [],', 1).encode(),
    ],
)
def test_what_cannot_be_used_is_refused_in_the_protocols_form(world: World, body: bytes) -> None:
    refused(world.client.post(INFER, content=body))


def test_far_more_numbers_than_a_call_may_have_are_not_even_decoded(world: World) -> None:
    body = json.dumps({"inputs": [{**GOOD, "data": [0] * 600_000}]})

    assert "10000 rows" in refused(world.client.post(INFER, content=body))


@pytest.mark.parametrize(
    ("length", "change"),
    [
        ("abc", b""),
        ("-1", b""),
        ("99999999", b""),
        ("٣", b""),
        (None, b"x"),
        (None, b"-"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    world: World, length: str | None, change: bytes
) -> None:
    body, headers = binary(world.rows, "<f4", "FP32")
    if length is not None:
        headers[LENGTH] = length
    body = body[:-4] if change == b"-" else body + change
    compress = [(key.encode(), value.encode()) for key, value in headers.items()]

    refused(world.client.post(INFER, content=body, headers=compress))


def test_unknown_models_paths_and_methods_are_told_in_the_protocols_form(world: World) -> None:
    refused(world.client.post("/v2/models/nobody/infer", json={"inputs": [GOOD]}), 404)
    refused(world.client.post("/v2/models/digits/versions/9/infer", json={"inputs": [GOOD]}), 404)
    refused(world.client.get("/v2/nothing"), 404)
    refused(world.client.get(INFER), 405)
    refused(world.client.post(INFER, content=b"x", headers={"Content-Encoding": "br"}), 415)


def test_unknown_parameters_do_not_fail_a_request(world: World) -> None:
    body = {
        "inputs": [{**GOOD, "parameters": {"anything": 1}}],
        "parameters": {"sequence_id": 5, "priority": 1, "timeout": 1000, "triton_x": "y"},
    }

    assert world.client.post(INFER, json=body).status_code == 200
