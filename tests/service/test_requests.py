"""Conventions of all requests: media types, errors, request ids, cross-site requests, paths."""

import json
import logging
import re

import httpx
import pytest
from fastapi import FastAPI

from service.application.request_id import request_id
from service.infrastructure.observability.logging import JsonLines
from tests.service.conftest import LAYERS, problem

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
        headers={"content-type": "application/json", "content-encoding": "gzip"},
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
    own = await client.post("/v1/networks", json=NETWORK, headers={"Origin": "http://test"})
    assert own.status_code == 201


@pytest.mark.parametrize(
    "browser_headers", [{"Origin": "http://evil.example"}, {"User-Agent": "Mozilla/5.0"}]
)
async def test_dns_rebinding_is_rejected_without_keys(
    client: httpx.AsyncClient, browser_headers: dict[str, str]
) -> None:
    headers = {"Host": "evil.example", "Sec-Fetch-Site": "same-origin", **browser_headers}

    problem(await client.post("/v1/networks", json=NETWORK, headers=headers), 403, "csrf_rejected")
    problem(await client.get("/v1/networks", headers=headers), 403, "csrf_rejected")
    local = {**headers, "Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}
    assert (await client.get("/v1/networks", headers=local)).status_code == 200


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
