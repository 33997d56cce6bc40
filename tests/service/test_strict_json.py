"""Strict parsing of JSON bodies."""

import json

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from service.api import strict_json
from service.domain.errors import ServiceError
from tests.service.conftest import LAYERS, Json, problem


class Pairs(list[tuple[str, object]]):
    """The members of a JSON object, in which a key may occur twice."""


NETWORK = {"input_shape": [25], "layers": LAYERS}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_body"),
        (b"{", 400, "malformed_body"),
        (b"not json", 400, "malformed_body"),
        (b"\xff\xfe", 400, "malformed_body"),
        (b"\xef\xbb\xbf{}", 400, "malformed_body"),
        (json.dumps(NETWORK).encode("utf-16"), 400, "malformed_body"),
        (b"[" * 50_000, 400, "malformed_body"),
        (b'{"a": NaN}', 422, "validation_failed"),
        (b'{"a": -Infinity}', 422, "validation_failed"),
        (b'{"name": "a", "name": "b"}', 422, "validation_failed"),
        (b'{"seed": ' + b"1" * 5000 + b"}", 422, "validation_failed"),
        (b'{"name": "\\ud800"}', 422, "validation_failed"),
        (b"[]", 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
        (b"{}", 422, "validation_failed"),
        (b'"text"', 422, "validation_failed"),
    ],
)
async def test_an_invalid_body_is_rejected(
    client: httpx.AsyncClient, body: bytes, status: int, code: str
) -> None:
    headers = {"content-type": "application/json"}

    problem(await client.post("/v1/networks", content=body, headers=headers), status, code)


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (b'{"layers": [{"units": 1}, {"units": [1, NaN]}]}', "/layers/1/units/1", "not_finite"),
        (b"-Infinity", "", "not_finite"),
        (b'{"metadata": {"a/b": "", "a/b": ""}}', "/metadata/a~1b", "duplicate_key"),
        (
            b'[{"a": {' + b",".join(b'"%d": 0' % n for n in range(2000)) + b"}}]",
            "/0/a",
            "too_many_keys",
        ),
    ],
)
async def test_an_error_of_strict_json_has_a_pointer(
    client: httpx.AsyncClient, body: bytes, pointer: str, code: str
) -> None:
    headers = {"content-type": "application/json"}

    response = await client.post("/v1/networks", content=body, headers=headers)

    [field_error] = problem(response, 422, "validation_failed")["errors"]
    assert (field_error["pointer"], field_error["code"]) == (pointer, code)


async def test_only_the_first_twenty_errors_are_reported(client: httpx.AsyncClient) -> None:
    body = b'{"input_shape": [' + b",".join([b"NaN"] * 30) + b"]}"

    response = await client.post("/v1/networks", content=body)

    field_errors = problem(response, 422, "validation_failed")["errors"]
    assert [field_error["pointer"] for field_error in field_errors] == [
        f"/input_shape/{n}" for n in range(20)
    ]


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "1" + "0" * 400, "true", '"1"', "null", "[]"]
)
async def test_a_value_that_is_not_a_finite_number_is_rejected(
    client: httpx.AsyncClient, network: Json, number: str
) -> None:
    row = ", ".join(["0"] * 24 + [number])
    url = f"{network['links']['self']}/classify"

    response = await client.post(
        url,
        content=f'{{"inputs": [[{row}]]}}',
        headers={"content-type": "application/json"},
    )

    problem(response, 422, "validation_failed")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec="utf-8") | st.sampled_from('":\\'), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(st.tuples(st.sampled_from(["a", "b", ":", '"', "é"]), inner), max_size=3).map(
            Pairs
        )
    ),
    max_leaves=12,
)


def encode(value: object, escapes: bool) -> str:
    """Return JSON in which keys may occur twice."""
    if isinstance(value, Pairs):
        members = (f"{encode(key, escapes)} :{encode(part, escapes)}" for key, part in value)
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(encode(part, escapes) for part in value) + "]"
    return json.dumps(value, ensure_ascii=escapes)


@settings(max_examples=300, deadline=None)
@given(value=values, escapes=st.booleans())
def test_parsing_with_and_without_the_fast_decoder_is_equal(value: object, escapes: bool) -> None:
    body = encode(value, escapes).encode()
    results = []

    for decoder in (strict_json._parse_fast, lambda _: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(strict_json, "_parse_fast", decoder)
            try:
                results.append(repr(strict_json.parse_json(body)))
            except ServiceError as error:
                results.append(f"{type(error)} {error}")

    assert results[0] == results[1]


def test_the_fast_decoder_reads_bodies_without_duplicate_keys() -> None:
    value = {
        "name": "a: b",
        "inputs": [[0.5, 1], [2, 3]],
        "layers": [{"units": 3}, {"rate": 0.5}],
    }

    assert strict_json._parse_fast(json.dumps(value, indent=1).encode()) == value
    assert strict_json._parse_fast(b'{"a": 1, "a": 2}') is None
    assert strict_json._parse_fast(b'[[{"a": 1, "a": 2}]]') is None
    assert strict_json._parse_fast(json.dumps([":"] * 200_000).encode()) is None


@pytest.mark.parametrize(
    ("body", "limit", "expected"),
    [
        (b"[[], []]", 5, 3),
        (b'["[[[[", []]', 1, 2),
        (b'["\\"[[[", "[\\\\", []]', 1, 2),
        (b'["[[[["]', 9, 5),  # within the limit, brackets in strings are counted too
        (b"[" * 100, 9, 10),
    ],
)
def test_brackets_are_counted_outside_strings(body: bytes, limit: int, expected: int) -> None:
    assert strict_json.count_outside_strings(body, b"[", limit) == expected
