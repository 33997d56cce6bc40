"""Liveness, readiness, metrics and internal errors."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from service.asgi import create_app
from service.domain.errors import UnavailableError
from tests.service.conftest import Json, problem
from tests.waiting import wait_until


async def test_a_running_server_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    async def readiness() -> Json | None:  # the workers may still be starting
        response = await client.get("/readyz")
        return response.json() if response.status_code == 200 else None

    ready = await wait_until(readiness)

    assert (await client.get("/healthz")).json() == {"status": "alive"}
    assert ready["checks"]["database"] == ready["checks"]["blobs"] == "ok"
    assert (await client.get("/v1/version")).json()["name"] == "neurond"


async def test_head_requests_have_no_body(client: httpx.AsyncClient) -> None:
    response = await client.head("/healthz")

    assert (response.status_code, response.content) == (200, b"")


async def test_the_root_returns_html_to_browsers_only(client: httpx.AsyncClient) -> None:
    browser = await client.get("/", headers={"Accept": "text/html"})

    assert "text/html" in browser.headers["content-type"]
    assert (await client.get("/")).json() == {"status": "alive"}


async def test_a_server_that_is_not_ready_returns_503(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def raise_full() -> None:
        raise UnavailableError("the disk is full", code="storage_full")

    with monkeypatch.context() as patch:
        patch.setattr(app.state.services.blobs, "ping", raise_full)
        response = await client.get("/readyz")
        problem(response, 503, "storage_unavailable")
        assert response.headers["retry-after"] == "2"
    monkeypatch.setattr(app.state.services.executor, "available", lambda: 0)
    problem(await client.get("/readyz"), 503, "storage_unavailable")


async def test_metrics_count_requests_rows_and_jobs(
    client: httpx.AsyncClient, network: Json
) -> None:
    url = f"{network['links']['self']}/classify"
    await client.post(url, json={"inputs": [[0.5] * 25] * 3})

    response = await client.get("/metrics")

    route = 'method="POST",route="/v1/networks/{network}/classify",status="200"'
    assert response.headers["content-type"].startswith("text/plain")
    assert f"http_server_request_duration_seconds_count{{{route}}}" in response.text
    assert 'neurond_jobs{status="running"}' in response.text
    assert "neurond_rows_answered_total" in response.text


async def test_an_internal_error_is_a_problem_without_details(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def raise_error() -> None:
        message = "internal detail"
        raise RuntimeError(message)

    monkeypatch.setattr(app.state.services.database, "ping", raise_error)

    response = await client.get("/readyz", headers={"X-Request-ID": "mine-9"})

    body = problem(response, 500, "internal_error")
    assert body["request_id"] == response.headers["x-request-id"] == "mine-9"
    assert "internal detail" not in response.text


def test_the_asgi_factory_creates_the_application(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEUROND_DATA_DIR", str(tmp_path / "data"))

    app = create_app()

    assert app.title == "neurond"
