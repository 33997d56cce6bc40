"""Access control of every route: keys, scopes and tenants."""

import asyncio
import re
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.bootstrap import build
from service.settings import Settings
from tests.service.conftest import (
    LAYERS,
    GuardedApp,
    Json,
    bearer,
    problem,
    serve_on_socket,
)

OPEN = {
    "/",
    "/docs",
    "/docs/assets/{path:path}",
    "/healthz",
    "/health",
    "/openapi.json",
    "/ping",
    "/readyz",
    "/swagger.json",
    "/score",
    "/v1/version",
    "/v2",
    "/v2/",
    "/v2/health/live",
    "/v2/health/ready",
    "/version",
}
"""Routes without tenant data; /score only for OPTIONS."""


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Return every method and path of the application."""
    documented = [
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    ]
    declared = {route.path for route in app.routes if isinstance(route, APIRoute)}
    return documented + [("GET", path) for path in declared - {path for _, path in documented}]


def fill(path: str, **ids: str) -> str:
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda match: ids.get(match[1], "0"), path)


async def test_every_protected_route_rejects_invalid_keys(guarded: GuardedApp) -> None:
    checked = 0
    for method, path in routes(guarded.app):
        if path in OPEN and method in {"GET", "OPTIONS"}:
            continue
        for headers in (
            {},
            bearer("nrd_000000000000_" + "x" * 43),
            {"Authorization": "Basic eA=="},
        ):
            response = await guarded.client.request(method, fill(path), headers=headers)
            assert response.status_code == 401, (method, path, response.text)
            assert response.headers["www-authenticate"] == "Bearer"
        checked += 1
    assert checked > 60


async def test_every_protected_route_rejects_an_insufficient_scope(guarded: GuardedApp) -> None:
    for method, path in routes(guarded.app):
        if path in OPEN and method in {"GET", "OPTIONS"}:
            continue
        reads = method == "GET" or path == "/v2/repository/index"
        small = "predictor" if reads else "reader"
        content_type = {"Content-Type": "application/json"}
        response = await guarded.client.request(
            method,
            fill(path),
            headers={**bearer(guarded.keys[small]), **content_type},
            content=b"{}",
        )
        assert response.status_code == 403, (method, path, response.text)


async def test_resources_of_another_tenant_are_not_found(guarded: GuardedApp) -> None:
    ours, theirs = bearer(guarded.keys["ours"]), bearer(guarded.keys["theirs"])
    client = guarded.client
    network = (
        await client.post(
            "/v1/networks", json={"name": "n", "input_shape": [25], "layers": LAYERS}, headers=ours
        )
    ).json()
    dataset = (
        await client.post("/v1/datasets", json={"name": "d", "builtin": "digits"}, headers=ours)
    ).json()
    body = {"network": "n", "dataset": "d", "training": {"epochs": 1}}
    job = (await client.post("/v1/jobs", json=body, headers=ours)).json()
    await client.get(f"/v1/jobs/{job['id']}?wait=20", headers=ours)
    ids = {"network": network["id"], "model": network["id"], "dataset": dataset["id"], "ref": "0"}
    ids |= {"job": job["id"], "version": "0", "label": "latest", "alias": "stable"}
    absent = {"network": "net_0", "model": "net_0", "dataset": "ds_0", "job": "job_0"}

    for method, path in routes(guarded.app):
        if not set(re.findall(r"\{(\w+)", path)) & {"network", "model", "dataset", "job"}:
            continue
        responses = [
            await client.request(
                method,
                fill(path, **values) + ("?from=0" if path.endswith("/diff") else ""),
                headers={**theirs, "Content-Type": "application/json"},
                content=_body(path),
            )
            for values in (ids, {**ids, **absent})
        ]
        assert responses[0].status_code == responses[1].status_code, (
            method,
            path,
            responses[0].text,
        )
        assert responses[0].status_code in {404, 403}, (method, path, responses[0].text)
    foreign = {**body, "network": network["id"]}
    response = await client.post("/v1/jobs", json=foreign, headers=theirs)
    problem(response, 404, "not_found")
    for path in ("networks", "datasets", "jobs"):
        assert (await client.get(f"/v1/{path}", headers=theirs)).json()["data"] == []


def _body(path: str) -> bytes | None:
    """Return a valid body, so that the route looks up the resource."""
    for end, body in {
        "/weights": b'{"coefs_": [[[1.0]]], "intercepts_": [[1.0]]}',
        "/evaluate": b'{"dataset": "d"}',
        "/gradient-check": b'{"dataset": "d"}',
        "/explain": b'{"inputs": [[1]]}',
        "/classify": b'{"inputs": [[1]]}',
        "/predict": b'{"inputs": [[1]]}',
        "/infer": b"{}",
        "/aliases/{alias}": b'{"version": 0}',
        "/promote": None,
        "/checkpoints": None,
    }.items():
        if path.endswith(end):
            return body
    return b"{}"


async def test_an_admin_reads_any_tenant_by_id_and_lists_as_a_tenant(guarded: GuardedApp) -> None:
    theirs, admin = bearer(guarded.keys["theirs"]), bearer(guarded.keys["admin"])
    body = {"input_shape": [2], "layers": LAYERS[-1:]}
    network: Json = (await guarded.client.post("/v1/networks", json=body, headers=theirs)).json()

    seen = await guarded.client.get(f"/v1/networks/{network['id']}", headers=admin)
    acting = {**admin, "X-Neurond-Tenant": "them"}
    listed = (await guarded.client.get("/v1/networks", headers=acting)).json()["data"]

    assert seen.json()["id"] == network["id"]
    assert network["id"] in [item["id"] for item in listed]
    ignored = {**bearer(guarded.keys["ours"]), "X-Neurond-Tenant": "them"}
    response = await guarded.client.get(f"/v1/networks/{network['id']}", headers=ignored)
    problem(response, 404, "not_found")


async def test_the_inference_pipeline_checks_keys(guarded: GuardedApp) -> None:
    ours = bearer(guarded.keys["ours"])
    body = {"name": "hot", "input_shape": [2], "layers": LAYERS[-1:]}
    assert (await guarded.client.post("/v1/networks", json=body, headers=ours)).status_code == 201
    url, rows = "/v1/networks/hot/classify", {"inputs": [[0.0, 1.0]]}
    async with (
        serve_on_socket(guarded.app) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        assert (await client.post(url, json=rows, headers=ours)).status_code == 200
        response = await client.post(url, json=rows, headers=ours)
        assert response.status_code == 200

        assert (await client.post(url, json=rows)).status_code == 401
        # A key is checked before the body arrives.
        stream, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        head = f"POST {url} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer nrd_no\r\n"
        writer.write(f"{head}Content-Length: 900\r\n\r\n{{".encode())
        assert b" 401 " in await asyncio.wait_for(stream.readline(), 5)
        writer.close()
        reader, theirs = bearer(guarded.keys["reader"]), bearer(guarded.keys["theirs"])
        problem(await client.post(url, json=rows, headers=reader), 403, "insufficient_scope")
        problem(await client.post(url, json=rows, headers=theirs), 404, "not_found")


async def test_without_keys_only_local_clients_have_access(tmp_path: Path) -> None:
    app = build(Settings(data_dir=tmp_path, workers=1))
    async with app.router.lifespan_context(app):
        for address, status in (("127.0.0.1", 200), ("::1", 200), ("10.1.2.3", 401)):
            transport = httpx.ASGITransport(app=app, client=(address, 1))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                assert (await client.get("/v1/networks")).status_code == status
                assert (await client.get("/healthz")).status_code == 200


async def test_an_invalid_tenant_header_is_rejected(guarded: GuardedApp) -> None:
    admin = bearer(guarded.keys["admin"])
    invalid = {**admin, "X-Neurond-Tenant": "!! /"}

    problem(await guarded.client.get("/v1/networks", headers=invalid), 422, "validation_failed")
