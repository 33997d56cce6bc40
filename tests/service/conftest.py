"""One in-process server for all tests of the service, with real workers and a real database."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from service.bootstrap import build
from service.domain.keys import new_secret
from service.server.inference_protocol import InferenceHttpProtocol
from service.settings import Settings
from tests import postgres
from tests.service.dispatcher_harness import DispatcherHarness, dispatching
from tests.waiting import wait_until

Json = dict[str, Any]
Train = Callable[..., Awaitable[Json]]

LAYERS = [
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]

FOREVER = {"epochs": 100_000, "early_stopping": None}
JOB_SECONDS = 120.0
"""Longest wait for a job."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    with postgres.run_postgres() as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
async def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FastAPI]:
    url = None
    if request.param == "postgres":
        url = SecretStr(request.getfixturevalue("postgres_server").create("api"))
    app = build(
        Settings(
            data_dir=tmp_path_factory.mktemp("data"),
            database_url=url,
            workers=2,
            max_json_bytes=1 << 20,
            max_dataset_bytes=8 << 20,
        )
    )
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="session")
def data_dir(app: FastAPI) -> Path:
    folder: Path = app.state.services.uploads.parent
    return folder


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[DispatcherHarness]:
    async with dispatching(tmp_path / "data") as harness:
        yield harness


class GuardedApp(NamedTuple):
    """An application with API keys, and a key for each kind of caller."""

    app: FastAPI
    client: httpx.AsyncClient
    keys: dict[str, str]
    folder: Path


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GuardedApp]:
    admin = new_secret()
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("guarded"), workers=1, bootstrap_key=SecretStr(admin)
    )
    app = build(settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        keys = {"admin": admin}
        requested: dict[str, Json] = {
            "reader": {"scopes": ["read"]},
            "ours": {},
            "theirs": {"tenant": "them"},
            "predictor": {"scopes": ["predict"]},
        }
        for name, body in requested.items():
            response = await client.post(
                "/v1/keys", json={"name": name} | body, headers=bearer(admin)
            )
            assert response.status_code == 201, response.text
            keys[name] = response.json()["key"]
        yield GuardedApp(app, client, keys, settings.data_dir)


@asynccontextmanager
async def in_process(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application with these settings, and yield its client."""
    app = build(settings)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


@pytest.fixture(scope="session")
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def submit(client: httpx.AsyncClient, network: Json, dataset: str, **training: Any) -> Json:
    body = {"network": network["id"], "dataset": dataset, "training": training}
    response = await client.post("/v1/jobs", json=body)
    assert response.status_code == 202, response.text
    job: Json = response.json()
    return job


KEEP_ALIVE = 1
"""Seconds before the test server closes an idle connection."""


class QuietServer(uvicorn.Server):
    """A server that leaves signal handling to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve_on_socket(app: FastAPI) -> AsyncIterator[str]:
    """Serve a running application on a socket, like the command line, and yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    http: Any = partial(InferenceHttpProtocol, pipeline=app.state.pipeline)
    config = uvicorn.Config(
        app, http=http, lifespan="off", log_config=None, timeout_keep_alive=KEEP_ALIVE
    )
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve([listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest.fixture
async def socket_client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the same application over a socket, through the inference pipeline."""
    async with serve_on_socket(app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.fixture(scope="session")
async def digits(client: httpx.AsyncClient) -> str:
    """Create a dataset of noisy digits, and return its name."""
    body = {"name": "shared-digits", "builtin": "digits", "samples": 200, "seed": 1}
    assert (await client.post("/v1/datasets", json=body)).status_code == 201
    return "shared-digits"


@pytest.fixture
async def network(client: httpx.AsyncClient) -> Json:
    """Create an untrained network for the digits."""
    body = {"input_shape": [25], "layers": LAYERS, "seed": 3}
    response = await client.post("/v1/networks", json=body)
    assert response.status_code == 201
    network: Json = response.json()
    return network


@pytest.fixture(scope="session")
def train(client: httpx.AsyncClient, digits: str) -> Train:
    """Return a function that trains a network until its job is finished."""

    async def run(network: str, dataset: str | None = None, **training: Any) -> Json:
        body = {"network": network, "dataset": dataset or digits, "training": training}
        response = await client.post("/v1/jobs", json=body)
        assert response.status_code == 202, response.text
        return await wait_until_finished(client, response.json()["id"])

    return run


async def wait_until_finished(client: httpx.AsyncClient, job: str) -> Json:
    """Return the job when it is in a terminal status."""

    async def finished() -> Json | None:
        body: Json = (await client.get(f"/v1/jobs/{job}", params={"wait": 10})).json()
        return body if body["terminal"] else None

    body: Json = await wait_until(finished, timeout=JOB_SECONDS)
    return body


async def wait_for_status(client: httpx.AsyncClient, job: str, status: str) -> Json:
    """Return the job when it has this status; fail if it ends with another."""

    async def reached() -> Json | None:
        body: Json = (await client.get(f"/v1/jobs/{job}")).json()
        if body["status"] == status:
            return body
        assert not body["terminal"], body
        await client.get(f"/v1/jobs/{job}", params={"wait": 1})
        return None

    body: Json = await wait_until(reached, timeout=JOB_SECONDS)
    return body


def problem(response: httpx.Response, status: int, code: str, pointer: str | None = None) -> Json:
    """Check that a response is the expected problem, and return its body."""
    body: Json = response.json()
    assert response.status_code == status, body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["code"] == code, body
    assert body["status"] == status
    assert {"type", "title", "detail", "instance", "request_id"} <= body.keys()
    if pointer is not None:
        assert pointer in [field_error["pointer"] for field_error in body["errors"]], body
    return body


async def create_trained_network(client: httpx.AsyncClient, train: Train) -> str:
    """Return the id of a network that is trained on the digits."""
    body = {"input_shape": [25], "layers": LAYERS, "labels": list("0123456789")}
    name = (await client.post("/v1/networks", json=body)).json()["id"]
    assert (await train(name, epochs=5))["status"] == "succeeded"
    return str(name)
