"""Conventions of all requests: media types, errors, request ids, cross-site requests, paths."""

import gzip
import json
import logging
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from service.application.request_id import request_id
from service.infrastructure.observability.logging import JsonLines
from service.settings import Settings
from tests.service.conftest import LAYERS, GuardedApp, Json, bearer, in_process, problem

NETWORK = {"input_shape": [25], "layers": LAYERS}


async def test_a_json_body_needs_no_content_type_and_accepts_no_other(
    client: httpx.AsyncClient,
) -> None:
    body = json.dumps(NETWORK).encode()

    bare = await client.post("/v1/networks", content=body)
    text = await client.post("/v1/networks", content=body, headers={"content-type": "text/plain"})
    compressed = await client.post(
        "/v1/networks",
        content=body,
        headers={"content-type": "application/json", "content-encoding": "br"},
    )

    assert bare.status_code == 201
    problem(text, 415, "unsupported_media_type")
    problem(compressed, 415, "unsupported_media_type")


async def test_errors_of_the_framework_are_problems(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nothing"), 404, "not_found")
    response = await client.put("/v1/networks")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, POST"
    problem(await client.get("/v1/jobs?limit=many"), 422, "validation_failed")
    for kind in ("networks", "datasets", "jobs"):
        problem(await client.get(f"/v1/{kind}/none"), 404, "not_found")


async def test_a_request_id_is_echoed_or_created(client: httpx.AsyncClient) -> None:
    echoed = await client.get("/healthz", headers={"X-Request-ID": "mine-7"})
    created = await client.get("/healthz")
    invalid = await client.get("/healthz", headers={"X-Request-ID": "a b"})
    failed = await client.get("/nothing", headers={"X-Request-ID": "mine-8"})

    assert echoed.headers["x-request-id"] == "mine-7"
    assert len(created.headers["x-request-id"]) == 32
    assert invalid.headers["x-request-id"] != "a b"
    assert failed.json()["request_id"] == "mine-8"


def test_log_lines_are_json_with_the_request_id() -> None:
    exc_info = (RuntimeError, RuntimeError("broken"), None)
    record = logging.LogRecord("name", logging.ERROR, "", 1, "it %s", ("failed",), exc_info)

    token = request_id.set("mine-10")
    line = json.loads(JsonLines().format(record))
    request_id.reset(token)

    assert (line["level"], line["message"], line["request_id"]) == ("error", "it failed", "mine-10")
    assert "broken" in line["exception"]


async def test_a_page_of_another_site_can_read_but_not_write(client: httpx.AsyncClient) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        problem(
            await client.post("/v1/networks", json=NETWORK, headers=headers), 403, "csrf_rejected"
        )
        assert (await client.get("/healthz", headers=headers)).status_code == 200
    own = await client.post("/v1/networks", json=NETWORK, headers={"Origin": "http://localhost"})
    assert own.status_code == 201


@pytest.mark.parametrize("host", ["evil.example", "neurond", "10.0.0.1", "a.localhost", "", "::2"])
@pytest.mark.parametrize("user_agent", ["Mozilla/5.0", "curl/8.0"])
async def test_without_keys_only_loopback_hosts_are_answered(
    client: httpx.AsyncClient, network: Json, host: str, user_agent: str
) -> None:
    """A page can let its own name resolve to this machine, and can set most headers."""
    headers = {"Host": host, "User-Agent": user_agent}
    url = f"{network['links']['self']}/predict"

    for response in (
        await client.post("/v1/networks", json=NETWORK, headers=headers),
        await client.post(url, json={"inputs": [[0.0] * 25]}, headers=headers),
        await client.get("/v1/networks", headers=headers),
        await client.get("/docs", headers=headers),
    ):
        problem(response, 403, "csrf_rejected")
    for path in ("/healthz", "/readyz"):
        assert (await client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:8000"]
)
async def test_a_loopback_host_is_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/v1/networks", headers={"Host": host})).status_code == 200


async def test_with_keys_any_host_is_answered(guarded: GuardedApp) -> None:
    headers = {**bearer(guarded.keys["reader"]), "Host": "neurond.example"}

    assert (await guarded.client.get("/v1/networks", headers=headers)).status_code == 200


async def test_every_response_has_the_headers_for_browsers(
    client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    predicted = await client.post(f"{path}/predict", json={"inputs": [[0.0] * 25]})
    responses = [
        await client.get(url)
        for url in ("/", "/docs", "/docs/errors", "/openapi.json", "/nothing", path, "/v1/networks",
                    "/metrics", "/healthz", "/guide/", f"{path}/weights", "/v2/models/none")
    ]  # fmt: skip
    for response in (*responses, predicted, await client.post("/v1/networks", content=b"{")):
        headers = response.headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"], response.url
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"], response.url
    assert predicted.headers["cache-control"] == "no-store"
    by_path = {response.url.path: response.headers["cache-control"] for response in responses}
    assert by_path[path] == "private, no-cache"
    assert by_path[f"{path}/weights"] == "private, no-cache"
    assert by_path["/v1/networks"] == by_path["/nothing"] == "no-store"


async def test_pages_of_configured_origins_can_use_the_api(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, workers=1, cors_origins="https://app.example, http://localhost:3000"
    )
    async with in_process(settings) as client:
        network = (await client.post("/v1/networks", json=NETWORK)).json()
        url = f"{network['links']['self']}/predict"
        for origin in ("https://app.example", "http://localhost:3000"):
            preflight_headers = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            }
            preflight = await client.options(url, headers=preflight_headers)
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == origin
            assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
            assert preflight.headers["x-content-type-options"] == "nosniff"
            assert preflight.headers["x-request-id"]
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            for response in (
                await client.post(url, json={"inputs": [[0.0] * 25]}, headers=headers),
                await client.post("/v1/networks", json=NETWORK, headers=headers),
                await client.get("/v1/networks", headers=headers),
            ):
                assert response.is_success
                assert response.headers["access-control-allow-origin"] == origin
                assert response.headers["cross-origin-resource-policy"] == "cross-origin"
                assert "ETag" in response.headers["access-control-expose-headers"]
        other = {"Origin": "https://app.example.evil"}
        problem(await client.post(url, json={}, headers=other), 403, "csrf_rejected")
        denied = await client.get("/v1/networks", headers=other)
        assert "access-control-allow-origin" not in denied.headers
        assert denied.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("origins", ["*", "app.example", "https://app.example/path", "null"])
def test_an_invalid_origin_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings(cors_origins=origins)


async def test_without_the_setting_no_origin_is_allowed(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/networks", headers={"Origin": "https://app.example"})

    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [
        ("bytes=abc", 400, "bad_request"),
        ("lines=1-2", 400, "bad_request"),
        ("bytes=99999999-", 416, "range_not_satisfiable"),
    ],
)
async def test_an_invalid_range_is_a_problem(
    client: httpx.AsyncClient, value: str, status: int, code: str
) -> None:
    url = "/docs/assets/swagger-ui.css"

    body = problem(await client.get(url, headers={"Range": value}), status, code)

    assert body["request_id"]
    assert (await client.get(url, headers={"Range": "bytes=0-9"})).status_code == 206


async def test_an_escaped_slash_is_part_of_a_name(client: httpx.AsyncClient) -> None:
    body = {**NETWORK, "name": "left/right"}
    assert (await client.post("/v1/networks", json=body)).status_code == 201

    network = await client.get("/v1/networks/left%2Fright")
    versions = await client.get("/v1/networks/left%2fright/versions")

    assert network.json()["name"] == "left/right"
    assert versions.status_code == 200
    problem(await client.get("/v1/networks/left/right"), 404, "not_found")


async def test_every_route_refuses_unknown_and_repeated_query_parameters(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    """A misspelt parameter must not be ignored: `?taget=y` would train on another column."""
    not_refused = []
    for path, operations in app.openapi()["paths"].items():
        url = re.sub(r"{[^}]*}", "x", path)
        for method, operation in operations.items():
            declared = [p for p in operation.get("parameters", []) if p["in"] == "query"]
            queries = [("taget=y", "taget", "unknown_parameter")]
            for parameter in declared:
                if parameter["schema"].get("type") != "array":
                    name = parameter["name"]
                    queries.append((f"{name}=1&{name}=1", name, "repeated_parameter"))
            for query, name, code in queries:
                response = await client.request(method, f"{url}?{query}", json={})
                errors = [(e["parameter"], e["code"]) for e in response.json().get("errors", [])]
                as_text = name in response.text and "query parameter" in response.text
                if response.status_code not in {400, 422} or not (
                    (name, code) in errors or as_text
                ):
                    not_refused.append((method, url, query, response.status_code))

    assert not_refused == []


async def test_a_page_ignores_query_parameters(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", "/openapi.json"):
        assert (await client.get(f"{path}?utm_source=mail")).status_code == 200


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_body_may_be_compressed_on_every_route(
    client: httpx.AsyncClient, network: Json, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    path = network["links"]["self"]
    weights = (await client.get(f"{path}/weights")).content
    npz = (await client.get(f"{path}/weights?format=npz")).content
    rows = json.dumps({"inputs": [[0.5] * 25]}).encode()
    instances = json.dumps({"instances": [[0.5] * 25]}).encode()
    long_csv = b"a,b,c\n" + b"1,2,x\n3,4,y\n" * 50_000
    sent = [
        ("POST", "/v1/networks", json.dumps(NETWORK).encode(), None, 201),
        ("PATCH", path, b'{"metadata": {"k": "v"}}', None, 200),
        ("PUT", f"{path}/weights", weights, None, 201),
        ("PUT", f"{path}/weights", npz, "application/x-npz", 201),
        ("POST", "/v1/datasets", b'{"builtin": "xor"}', None, 201),
        ("POST", "/v1/datasets", b"a,b,c\n1,2,x\n3,4,y\n", "text/csv", 201),
        ("POST", "/v1/datasets", long_csv, "text/csv", 201),
        ("POST", f"{path}/predict", rows, None, 200),
        ("POST", f"/v2/models/{network['id']}/infer", b"{}", None, 400),
        ("POST", f"/v1/models/{network['id']}:predict", instances, None, 200),
    ]
    for method, url, body, kind, status in sent:
        own = headers | ({} if kind is None else {"Content-Type": kind})
        response = await client.request(method, url, content=compress(body), headers=own)
        assert response.status_code == status, (url, response.text)
    csv = {"Content-Encoding": encoding, "Content-Type": "text/csv"}
    bomb = compress(bytes(9 << 20))
    for url, own, body, status, code in (
        ("/v1/datasets", csv, compress(long_csv)[:-9], 400, "malformed_body"),
        ("/v1/networks", headers, compress(b"{}") + b"x", 400, "malformed_body"),
        ("/v1/datasets", csv, bomb, 413, "payload_too_large"),
        ("/v1/networks", headers, bomb, 413, "payload_too_large"),
    ):
        problem(await client.post(url, content=body, headers=own), status, code)
