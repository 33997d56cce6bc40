"""Strict JSON, problem details, request ids, other sites' pages, and the pages around the API."""

import json
import logging
import re
from pathlib import Path

import httpx
import hypothesis.strategies as st
import pytest
from fastapi import FastAPI
from hypothesis import given, settings

from service.api import strict_json as strict
from service.api.errors import STATUS
from service.api.strict_json import count_outside_strings
from service.application.request_id import request_id
from service.asgi import create_app
from service.domain.errors import ServiceError, UnavailableError
from service.infrastructure.observability.logging import JsonLines
from tests.service.conftest import LAYERS, Json, problem


class Pairs(list[tuple[str, object]]):
    """The members of an object, in which a key may stand twice."""


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
        (b"[" * 100_000, 400, "malformed_body"),
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
async def test_what_is_no_strict_json_is_refused(
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
async def test_what_json_does_not_have_is_told_with_its_place(
    client: httpx.AsyncClient, body: bytes, pointer: str, code: str
) -> None:
    headers = {"content-type": "application/json"}

    answer = await client.post("/v1/networks", content=body, headers=headers)

    [field_error] = problem(answer, 422, "validation_failed")["errors"]
    assert (field_error["pointer"], field_error["code"]) == (pointer, code)


async def test_the_first_twenty_of_many_flaws_are_told(client: httpx.AsyncClient) -> None:
    body = b'{"input_shape": [' + b",".join([b"NaN"] * 30) + b"]}"

    answer = await client.post("/v1/networks", content=body)

    told = problem(answer, 422, "validation_failed")["errors"]
    assert [field_error["pointer"] for field_error in told] == [
        f"/input_shape/{n}" for n in range(20)
    ]


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "1" + "0" * 400, "true", '"1"', "null", "[]"]
)
async def test_what_is_no_finite_number_is_refused_with_the_place(
    client: httpx.AsyncClient, network: Json, number: str
) -> None:
    row = ", ".join(["0"] * 24 + [number])
    url = f"{network['links']['self']}/classify"

    answer = await client.post(
        url,
        content=f'{{"inputs": [[{row}]]}}',
        headers={"content-type": "application/json"},
    )

    problem(answer, 422, "validation_failed")


async def test_json_needs_no_content_type_and_takes_no_other(client: httpx.AsyncClient) -> None:
    body = json.dumps(NETWORK).encode()

    bare = await client.post("/v1/networks", content=body)
    form = await client.post("/v1/networks", content=body, headers={"content-type": "text/plain"})
    compress = await client.post(
        "/v1/networks",
        content=body,
        headers={"content-type": "application/json", "content-encoding": "gzip"},
    )

    assert bare.status_code == 201
    problem(form, 415, "unsupported_media_type")
    problem(compress, 415, "unsupported_media_type")


async def test_errors_of_the_framework_are_problems_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nothing"), 404, "not_found")
    refused = await client.put("/v1/networks")
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "GET, POST"
    problem(await client.get("/v1/jobs?limit=many"), 422, "validation_failed")
    for kind in ("networks", "datasets", "jobs"):
        problem(await client.get(f"/v1/{kind}/none"), 404, "not_found")


async def test_a_request_id_is_echoed_or_made(client: httpx.AsyncClient) -> None:
    echoed = await client.get("/healthz", headers={"X-Request-ID": "mine-7"})
    made = await client.get("/healthz")
    strange = await client.get("/healthz", headers={"X-Request-ID": "a b"})
    failed = await client.get("/nothing", headers={"X-Request-ID": "mine-8"})

    assert echoed.headers["x-request-id"] == "mine-7"
    assert len(made.headers["x-request-id"]) == 32
    assert strange.headers["x-request-id"] != "a b"
    assert failed.json()["request_id"] == "mine-8"


async def test_a_page_of_another_site_may_look_and_not_touch(client: httpx.AsyncClient) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        problem(
            await client.post("/v1/networks", json=NETWORK, headers=headers), 403, "csrf_rejected"
        )
        assert (await client.get("/healthz", headers=headers)).status_code == 200
    own = await client.post("/v1/networks", json=NETWORK, headers={"Origin": "http://test"})
    assert own.status_code == 201


async def test_the_server_tells_that_it_lives_and_what_it_is(client: httpx.AsyncClient) -> None:
    ready = (await client.get("/readyz")).json()

    assert (await client.get("/healthz")).json() == {"status": "alive"}
    assert ready["checks"]["database"] == ready["checks"]["blobs"] == "ok"
    assert (await client.get("/v1/version")).json()["name"] == "neurond"
    assert (await client.get("/")).json() == {"status": "alive"}
    browser = await client.get("/", headers={"Accept": "text/html"})
    assert "text/html" in browser.headers["content-type"]


async def test_prometheus_is_told_what_happened(client: httpx.AsyncClient, network: Json) -> None:
    url = f"{network['links']['self']}/classify"
    await client.post(url, json={"inputs": [[0.5] * 25] * 3})

    told = await client.get("/metrics")

    route = 'method="POST",route="/v1/networks/{network}/classify",status="200"'
    assert told.headers["content-type"].startswith("text/plain")
    assert f"http_server_request_duration_seconds_count{{{route}}}" in told.text
    assert 'neurond_jobs{status="running"}' in told.text
    assert "neurond_rows_answered_total" in told.text
    head = await client.head("/healthz")
    assert (head.status_code, head.content) == (200, b"")


async def test_the_documentation_is_local_and_without_inline_script(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/docs")

    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http://" not in page.text
    assert "https://" not in page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert (await client.get(f"/docs/assets/{asset}")).status_code == 200
    assert (await client.get("/docs/assets/secret")).status_code == 404
    codes = (await client.get("/docs/errors")).text
    assert all(f'id="{code}"' in codes for code in STATUS)


async def test_every_operation_declares_its_errors_and_an_example(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            place = f"{method} {path}"
            assert operation["summary"], place
            dialect = path.startswith("/v1/models")  # declares its own, fewer
            if path.startswith("/v1/") and path != "/v1/version" and not dialect:
                assert {"401", "403"} <= set(operation["responses"]), place
                assert {"400", "404", "409", "413", "415", "422", "429", "503"} <= set(
                    operation["responses"]
                ), place
            for body in operation.get("requestBody", {}).get("content", {}).values():
                reference = body["schema"].get("$ref", "").rpartition("/")[2]
                schema = document["components"]["schemas"].get(reference, body["schema"])
                assert {"examples", "example"} & (set(schema) | set(body)) or body["schema"].get(
                    "format"
                ), place
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_the_examples_work_one_after_the_other(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()

    def example(path: str) -> Json:
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        if "examples" in content:
            first: Json = next(iter(content["examples"].values()))["value"]
            return first
        name = content["schema"]["$ref"].rpartition("/")[2]
        found: Json = document["components"]["schemas"][name]["examples"][0]
        return found

    assert (await client.post("/v1/networks", json=example("/v1/networks"))).status_code == 201
    assert (await client.post("/v1/datasets", json=example("/v1/datasets"))).status_code == 201
    assert (await client.post("/v1/jobs", json=example("/v1/jobs"))).status_code == 202
    while not (await client.get("/v1/jobs/latest?wait=10")).json()["terminal"]:
        pass
    history = (await client.get("/v1/jobs/latest/history")).json()
    classify = "/v1/networks/{network}/classify"
    found = await client.post("/v1/networks/digits/classify", json=example(classify))

    assert history["total_epochs"] == 100
    assert found.json()["predictions"][0]["label"] == "7"
    for path in ("evaluate", "gradient-check"):
        url = f"/v1/networks/digits/{path}"
        body = example(f"/v1/networks/{{network}}/{path}")
        assert (await client.post(url, json=body)).status_code == 200
    fit = await client.post("/v1/fit", json=example("/v1/fit"), headers={"Prefer": "wait=20"})
    assert fit.status_code == 201


async def test_a_fault_of_the_server_is_a_problem_without_its_story(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble() -> None:
        message = "the inner story"
        raise RuntimeError(message)

    monkeypatch.setattr(app.state.services.database, "ping", stumble)

    answer = await client.get("/readyz", headers={"X-Request-ID": "mine-9"})

    body = problem(answer, 500, "internal_error")
    assert body["request_id"] == answer.headers["x-request-id"] == "mine-9"
    assert "inner story" not in answer.text


async def test_a_server_that_is_not_ready_says_why(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full() -> None:
        raise UnavailableError("the disk is full", code="storage_full")

    with monkeypatch.context() as patch:
        patch.setattr(app.state.services.blobs, "ping", full)
        answer = await client.get("/readyz")
        problem(answer, 503, "storage_unavailable")
        assert answer.headers["retry-after"] == "2"
    monkeypatch.setattr(app.state.services.executor, "alive", lambda: 0)
    problem(await client.get("/readyz"), 503, "storage_unavailable")


async def test_an_escaped_slash_stays_in_its_name(client: httpx.AsyncClient) -> None:
    body = {**NETWORK, "name": "left/right"}
    assert (await client.post("/v1/networks", json=body)).status_code == 201

    found = await client.get("/v1/networks/left%2Fright")
    versions = await client.get("/v1/networks/left%2fright/versions")

    assert found.json()["name"] == "left/right"
    assert versions.status_code == 200
    problem(await client.get("/v1/networks/left/right"), 404, "not_found")


def test_a_server_that_imports_the_application_gets_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEUROND_DATA_DIR", str(tmp_path / "data"))

    made = create_app()

    assert made.title == "neurond"


def test_logs_are_lines_of_json_with_the_request_they_belong_to() -> None:
    story = (RuntimeError, RuntimeError("broken"), None)
    batch = logging.LogRecord("name", logging.ERROR, "", 1, "it %s", ("failed",), story)

    token = request_id.set("mine-10")
    line = json.loads(JsonLines().format(batch))
    request_id.reset(token)

    assert (line["level"], line["message"], line["request_id"]) == ("error", "it failed", "mine-10")
    assert "broken" in line["exception"]


@pytest.mark.parametrize("told", [{"Origin": "http://evil.example"}, {"User-Agent": "Mozilla/5.0"}])
async def test_a_name_that_was_pointed_here_is_no_way_in_without_a_key(
    client: httpx.AsyncClient, told: dict[str, str]
) -> None:
    headers = {"Host": "evil.example", "Sec-Fetch-Site": "same-origin", **told}

    problem(await client.post("/v1/networks", json=NETWORK, headers=headers), 403, "csrf_rejected")
    problem(await client.get("/v1/networks", headers=headers), 403, "csrf_rejected")
    local = {**headers, "Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}
    assert (await client.get("/v1/networks", headers=local)).status_code == 200


async def test_every_reference_of_the_document_leads_somewhere(client: httpx.AsyncClient) -> None:
    text = (await client.get("/openapi.json")).text
    known = set(json.loads(text)["components"]["schemas"])

    assert set(re.findall(r"#/components/schemas/([A-Za-z0-9_]+)", text)) <= known


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


def written(value: object, escapes: bool) -> str:
    """Write JSON in which keys may stand twice."""
    if isinstance(value, Pairs):
        members = (f"{written(key, escapes)} :{written(part, escapes)}" for key, part in value)
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(part, escapes) for part in value) + "]"
    return json.dumps(value, ensure_ascii=escapes)


@settings(max_examples=300, deadline=None)
@given(value=values, escapes=st.booleans())
def test_the_fast_decoder_reads_what_the_strict_one_does(value: object, escapes: bool) -> None:
    body = written(value, escapes).encode()
    told = []

    for decoder in (strict._parse_fast, lambda _: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(strict, "_parse_fast", decoder)
            try:
                told.append(repr(strict.parse_json(body)))
            except ServiceError as error:
                told.append(f"{type(error)} {error}")

    assert told[0] == told[1]


def test_plain_documents_take_the_fast_decoder() -> None:
    document = {
        "name": "a: b",
        "inputs": [[0.5, 1], [2, 3]],
        "layers": [{"units": 3}, {"rate": 0.5}],
    }

    assert strict._parse_fast(json.dumps(document, indent=1).encode()) == document
    assert strict._parse_fast(b'{"a": 1, "a": 2}') is None
    assert strict._parse_fast(b'[[{"a": 1, "a": 2}]]') is None
    assert strict._parse_fast(json.dumps([":"] * 200_000).encode()) is None


@pytest.mark.parametrize(
    ("body", "most", "told"),
    [
        (b"[[], []]", 5, 3),
        (b'["[[[[", []]', 1, 2),
        (b'["\\"[[[", "[\\\\", []]', 1, 2),
        (b'["[[[["]', 9, 5),  # few enough, those in texts too
        (b"[" * 100, 9, 10),
    ],
)
def test_signs_are_counted_outside_texts(body: bytes, most: int, told: int) -> None:
    assert count_outside_strings(body, b"[", most) == told
