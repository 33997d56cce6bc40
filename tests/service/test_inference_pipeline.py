"""The inference pipeline and its two adapters: ASGI middleware and HTTP protocol."""

import asyncio
import gzip
import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.api.v1.inference import routes
from service.application.ports.repositories import Page
from tests.service.conftest import Json, problem

ROW = [0.5] * 25


def tensor(rows: list[list[float]]) -> Json:
    """Return a request of the Open Inference Protocol."""
    data = [number for row in rows for number in row]
    shape = [len(rows), len(rows[0])]
    return {"inputs": [{"name": "input", "shape": shape, "datatype": "FP32", "data": data}]}


LARGEST = [1e300] * 25
GOOD: list[tuple[str, Any]] = [
    ("/v1/networks/{name}/classify", {"inputs": [ROW]}),
    ("/v1/networks/{name}/classify", {"inputs": [ROW, [0] * 25], "top_k": 3}),
    ("/v1/networks/{name}/predict", {"inputs": [[1e-300] * 25]}),
    ("/v1/networks/{name}/versions/0/predict", {"top_k": None, "inputs": [ROW] * 64}),
    ("/v2/models/{name}/infer", tensor([[0.5] * 25])),
    ("/v2/models/{name}/versions/0/infer", tensor([[0.5] * 25] * 3)),
    ("/v1/models/{name}:predict", {"instances": [ROW]}),
    ("/v1/models/{name}/versions/0:classify", {"examples": [{"input": ROW}]}),
    ("/models/{name}/invoke", {"instances": [ROW]}),
    ("/invocations", {"instances": [ROW]}),
    ("/invocations", {"dataframe_split": {"data": [ROW]}}),
    ("/score", {"input_data": [ROW]}),
]
"""Valid requests of all protocols."""

BAD: list[tuple[str, Any]] = [
    (path, content)
    for path in ("/v1/networks/{name}/classify", "/v1/networks/{name}/predict")
    for content in (
        b'{"inputs": [[1]], "inputs": [[2]]}',
        b'{"inputs": [[1]], "\\u0069nputs": [[2]]}',
        b'{"inputs": [[true]]}',
        b'{"inputs": [["1"]]}',
        b'{"inputs": [[1e999]]}',
        b'{"inputs": [[NaN]]}',
        b'{"inputs": [], "top_k": 1}',
        b'{"inputs": [[1]], "top_k": 0}',
        b'{"inputs": [[1]], "extra": 0}',
        b'{"inputs": [[1]]}',
        b'{"inputs": [[1]',
        b"\xef\xbb\xbf{}",
        b"",
    )
] + [
    ("/v1/networks/{name}/predict", {"inputs": [LARGEST]}),
    ("/v1/networks/nowhere/predict", {"inputs": [ROW]}),
    ("/v1/networks/{name}/versions/77/predict", {"inputs": [ROW]}),
    ("/v2/models/{name}/infer", tensor([[0.5] * 24])),
    ("/v2/models/nowhere/infer", tensor([[0.5] * 25])),
    ("/v1/models/{name}:predict", {"instances": [["x"] * 25]}),
    ("/v1/models/{name}:regress", {"examples": [{"input": ROW}]}),
    ("/models/{name}/invoke", {"instances": "x"}),
    ("/invocations", {"instances": [[1]]}),
    ("/score", {"input_data": [ROW], "data": [ROW]}),
]
"""Requests whose response is an error."""


@pytest.fixture
async def default_network(app: FastAPI, network: Json, monkeypatch: pytest.MonkeyPatch) -> Json:
    """Make the network the default network, and return it."""
    monkeypatch.setattr(app.state.services.inference, "_default", network["name"])
    return network


@pytest.mark.parametrize(("path", "body"), GOOD + BAD)
async def test_both_adapters_send_the_same_response(
    client: httpx.AsyncClient,
    socket_client: httpx.AsyncClient,
    default_network: Json,
    path: str,
    body: Any,
) -> None:
    name = default_network["name"]
    url = path.format(name=name)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "X-Request-ID": "one-id"}
    await socket_client.post(f"/v1/networks/{name}/predict", json={"inputs": [ROW]})

    asgi_response = await client.post(url, content=content, headers=headers)
    http_response = await socket_client.post(url, content=content, headers=headers)

    assert asgi_response.status_code == http_response.status_code
    assert asgi_response.content == http_response.content
    assert asgi_response.is_success == ((path, body) in GOOD)
    server_headers = {"date", "server"}
    assert {item for item in http_response.headers.items() if item[0] not in server_headers} == {
        *asgi_response.headers.items()
    }


@pytest.mark.parametrize("name", ["two words", "ü", "a/b", "a%2Fb"])
async def test_both_adapters_decode_the_name_in_the_path(
    client: httpx.AsyncClient, socket_client: httpx.AsyncClient, name: str
) -> None:
    layers = [{"type": "dense", "units": 2}]
    body = {"name": name, "input_shape": [25], "layers": layers}
    assert (await client.post("/v1/networks", json=body)).status_code == 201
    url = f"/v1/networks/{quote(name, safe='')}/predict"

    by_asgi = await client.post(url, json={"inputs": [ROW]})
    by_http = await socket_client.post(url, json={"inputs": [ROW]})

    assert by_asgi.status_code == by_http.status_code == 200
    assert by_asgi.content == by_http.content


def test_the_pipeline_handles_every_declared_inference_operation(app: FastAPI) -> None:
    routers = [routes.router, *(protocol.router for protocol in app.state.protocols)]
    declared = {
        route.path
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        and "answered_by_pipeline" in route.endpoint.__code__.co_names
    }

    assert len(declared) > 15
    assert declared <= set(app.openapi()["paths"])
    for path in declared:
        example = re.sub(r"{\w+}", "x", path)
        scope = {"method": "POST", "path": example, "raw_path": example.encode()}
        assert app.state.pipeline.answers(scope), path


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "gzip"},
        {"Connection": "close"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Expect": "100-continue"},
    ],
)
async def test_unusual_requests_reach_the_pipeline_as_asgi_requests(
    socket_client: httpx.AsyncClient, network: Json, headers: dict[str, str]
) -> None:
    url = f"{network['links']['self']}/predict"
    content = json.dumps({"inputs": [ROW]}).encode()
    if "Content-Encoding" in headers:
        content = gzip.compress(content)
    plain = await socket_client.post(url, json={"inputs": [ROW]})

    response = await socket_client.post(
        url, content=content, headers={"Content-Type": "application/json", **headers}
    )

    assert response.status_code == 200
    assert response.content == plain.content


async def test_anonymous_access_is_denied_to_a_forwarded_address(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    url = f"{network['links']['self']}/predict"
    headers = {"X-Forwarded-For": "10.1.2.3"}

    response = await socket_client.post(url, json={"inputs": [ROW]}, headers=headers)

    problem(response, 401, "unauthorized")


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_pages_of_other_sites_are_rejected_on_both_adapters(
    client: httpx.AsyncClient,
    socket_client: httpx.AsyncClient,
    network: Json,
    headers: dict[str, str],
) -> None:
    url = f"{network['links']['self']}/predict"
    for sender in (client, socket_client):
        response = await sender.post(url, json={"inputs": [ROW]}, headers=headers)

        problem(response, 403, "csrf_rejected")


async def test_a_single_network_is_the_default_network(
    socket_client: httpx.AsyncClient, app: FastAPI
) -> None:
    tenant = "default"
    for record in await app.state.services.networks.page(tenant, Page(500)):
        await socket_client.delete(f"/v1/networks/{record.id}")
    layers = [{"type": "dense", "units": 1}]

    async def create(name: str, inputs: int) -> None:
        body = {"name": name, "input_shape": [inputs], "layers": layers}
        assert (await socket_client.post("/v1/networks", json=body)).status_code == 201

    async def invoke(row: list[float]) -> int:
        return (await socket_client.post("/invocations", json={"instances": [row]})).status_code

    assert await invoke([1.0]) == 400
    await create("first", 1)
    assert await invoke([1.0]) == 200
    await create("second", 2)
    assert await invoke([1.0]) == 400
    assert (await socket_client.delete("/v1/networks/first")).status_code == 204
    assert await invoke([1.0, 2.0]) == 200
    await socket_client.delete("/v1/networks/second")


async def test_a_new_version_or_alias_is_used_by_the_next_request(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    body = {"inputs": [ROW]}
    assert (await socket_client.post(f"{path}/classify", json=body)).json()["version"] == 0
    document = json.loads((await socket_client.get(f"{path}/weights")).content)
    document["layers"][-1]["biases"][0] += 1.0
    del document["sha256"]

    assert (await socket_client.put(f"{path}/weights", json=document)).status_code == 201
    newest = (await socket_client.post(f"{path}/classify", json=body)).json()
    assert (
        await socket_client.put(f"{path}/aliases/stable", json={"version": 0})
    ).status_code == 200
    stable = (await socket_client.post(f"{path}/classify", json=body)).json()

    assert (newest["version"], stable["version"]) == (1, 0)
    assert newest["predictions"] != stable["predictions"]


async def test_a_deleted_network_returns_404(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    assert (await socket_client.post(f"{path}/classify", json={"inputs": [ROW]})).status_code == 200

    assert (await socket_client.delete(path)).status_code == 204

    response = await socket_client.post(f"{path}/classify", json={"inputs": [ROW]})
    problem(response, 404, "not_found")


async def test_no_request_fails_while_aliases_and_versions_change(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    document = json.loads((await socket_client.get(f"{path}/weights")).content)
    del document["sha256"]
    assert (await socket_client.put(f"{path}/weights", json=document)).status_code == 201
    stable = f"{path}/versions/stable/predict"
    await socket_client.put(f"{path}/aliases/stable", json={"version": 0})
    results: list[tuple[int, int]] = []
    finished = asyncio.Event()

    async def predict_repeatedly() -> None:
        while not finished.is_set():
            response = await socket_client.post(stable, json={"inputs": [ROW]})
            results.append((response.status_code, response.json().get("version", -1)))

    clients = [asyncio.create_task(predict_repeatedly()) for _ in range(6)]
    for index in range(8):
        changed = await socket_client.put(f"{path}/aliases/stable", json={"version": index % 2})
        assert changed.status_code == 200
        response = await socket_client.post(stable, json={"inputs": [ROW]})
        assert response.json()["version"] == index % 2
        assert (await socket_client.put(f"{path}/weights", json=document)).status_code == 201
    finished.set()
    await asyncio.gather(*clients)

    assert set(results) == {(200, 0), (200, 1)}
    assert len(results) > 50
