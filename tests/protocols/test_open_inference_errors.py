"""Errors of the Open Inference Protocol."""

import gzip
import json
import re

import pytest

from tests.protocols.conftest import World
from tests.protocols.open_inference import (
    GOOD,
    INFER,
    LENGTH,
    ROW,
    binary,
    check_error,
)


def test_a_decompression_bomb_is_rejected(world: World) -> None:
    bomb = gzip.compress(b"0" * (300 << 20), compresslevel=9)

    response = world.client.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"})

    check_error(response, 413)


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
def test_an_invalid_body_is_rejected_with_an_error_of_the_protocol(
    world: World, body: bytes
) -> None:
    check_error(world.client.post(INFER, content=body))


FULL = {
    "id": "a",
    "parameters": {"binary_data_output": False, "text": "b"},
    "inputs": [{**GOOD, "parameters": {"x": 1}}],
    "outputs": [{"name": "output", "parameters": {"binary_data": False, "classification": 1}}],
}
PLAIN = {"inputs": [GOOD]}
NO_DATA = {"inputs": [{key: value for key, value in GOOD.items() if key != "data"}]}


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (document, key)
        for document in (FULL, PLAIN, NO_DATA)
        for key in re.findall(r'"(\w+)":', json.dumps(document))
    ],
)
def test_a_key_that_occurs_twice_is_rejected(
    world: World, document: dict[str, object], key: str
) -> None:
    text = json.dumps(document)
    match = re.search(rf'"{key}": ', text)
    assert match is not None
    value, _ = json.JSONDecoder().raw_decode(text[match.end() :])
    twice = f"{text[: match.start()]}{match[0]}{json.dumps(value)}, {text[match.start() :]}"

    if document is not NO_DATA:
        assert world.client.post(INFER, content=text).status_code == 200
    assert "duplicate key" in check_error(world.client.post(INFER, content=twice))


def test_a_tensor_with_too_many_numbers_is_rejected_with_the_row_limit(world: World) -> None:
    body = json.dumps({"inputs": [{**GOOD, "data": [0] * 600_000}]})

    assert "10000 rows" in check_error(world.client.post(INFER, content=body))


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
def test_inconsistent_lengths_are_rejected(world: World, length: str | None, change: bytes) -> None:
    body, headers = binary(world.rows, "<f4", "FP32")
    if length is not None:
        headers[LENGTH] = length
    body = body[:-4] if change == b"-" else body + change
    encoded = [(key.encode(), value.encode()) for key, value in headers.items()]

    check_error(world.client.post(INFER, content=body, headers=encoded))


def test_unknown_models_paths_and_methods_get_an_error_of_the_protocol(world: World) -> None:
    check_error(world.client.post("/v2/models/missing/infer", json={"inputs": [GOOD]}), 404)
    check_error(
        world.client.post("/v2/models/digits/versions/9/infer", json={"inputs": [GOOD]}), 404
    )
    check_error(world.client.get("/v2/nothing"), 404)
    check_error(world.client.get(INFER), 405)
    check_error(world.client.post(INFER, content=b"x", headers={"Content-Encoding": "br"}), 415)


def test_unknown_parameters_are_ignored(world: World) -> None:
    body = {
        "inputs": [{**GOOD, "parameters": {"anything": 1}}],
        "parameters": {"sequence_id": 5, "priority": 1, "timeout": 1000, "triton_x": "y"},
    }

    assert world.client.post(INFER, json=body).status_code == 200
