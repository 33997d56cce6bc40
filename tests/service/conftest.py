"""One server in process for all tests of the service, with real workers and a real store."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from service.bootstrap import build
from service.server.inference_protocol import InferenceHttpProtocol
from service.settings import Settings
from tests import postgres

Json = dict[str, Any]
Train = Callable[..., Awaitable[Json]]

LAYERS = [
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]

FOREVER = {"epochs": 100_000, "early_stopping": None}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
async def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FastAPI]:
    url = None
    if request.param == "postgres":
        url = SecretStr(request.getfixturevalue("postgres_server").create("api"))
    made = build(
        Settings(
            data_dir=tmp_path_factory.mktemp("data"),
            database_url=url,
            workers=2,
            max_json_bytes=1 << 20,
            max_dataset_bytes=8 << 20,
        )
    )
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture(scope="session")
def data_dir(app: FastAPI) -> Path:
    folder: Path = app.state.services.uploads.parent
    return folder


@asynccontextmanager
async def in_process(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application of these settings, and give a client of it."""
    app = build(settings)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


@pytest.fixture(scope="session")
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def submit(client: httpx.AsyncClient, network: Json, dataset: str, **training: Any) -> Json:
    body = {"network": network["id"], "dataset": dataset, "training": training}
    answer = await client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    made: Json = answer.json()
    return made


KEEP_ALIVE = 1
"""Seconds that a connection may be idle in tests."""


class QuietServer(uvicorn.Server):
    """One that leaves the signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def on_a_socket(app: FastAPI) -> AsyncIterator[str]:
    """Serve a running application as the command line does, and give its address."""
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
    """Return a client of the same application over a socket, where the hot path is."""
    async with on_a_socket(app) as url, httpx.AsyncClient(base_url=url) as made:
        yield made


@pytest.fixture(scope="session")
async def digits(client: httpx.AsyncClient) -> str:
    """Return the name of a dataset of noisy digits."""
    body = {"name": "shared-digits", "builtin": "digits", "samples": 200, "seed": 1}
    assert (await client.post("/v1/datasets", json=body)).status_code == 201
    return "shared-digits"


@pytest.fixture
async def network(client: httpx.AsyncClient) -> Json:
    """Return a new network over the digits."""
    body = {"input_shape": [25], "layers": LAYERS, "seed": 3}
    answer = await client.post("/v1/networks", json=body)
    assert answer.status_code == 201
    made: Json = answer.json()
    return made


@pytest.fixture(scope="session")
def train(client: httpx.AsyncClient, digits: str) -> Train:
    """Return a function that trains a network to the end."""

    async def run(network: str, dataset: str | None = None, **training: Any) -> Json:
        body = {"network": network, "dataset": dataset or digits, "training": training}
        answer = await client.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return await ended(client, answer.json()["id"])

    return run


async def ended(client: httpx.AsyncClient, job: str) -> Json:
    """Return a job that has ended."""
    while True:
        answer = await client.get(f"/v1/jobs/{job}", params={"wait": 10})
        if answer.json()["terminal"]:
            body: Json = answer.json()
            return body


async def until(client: httpx.AsyncClient, job: str, *statuses: str) -> Json:
    """Return a job that is in one of these states."""
    while True:
        body: Json = (await client.get(f"/v1/jobs/{job}")).json()
        if body["status"] in statuses:
            return body
        assert not body["terminal"], body
        await client.get(f"/v1/jobs/{job}", params={"wait": 1})


def problem(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> Json:
    """Check that an answer is the problem it should be, and return it."""
    body: Json = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["code"] == code, body
    assert body["status"] == status
    assert {"type", "title", "detail", "instance", "request_id"} <= body.keys()
    if pointer is not None:
        assert pointer in [field_error["pointer"] for field_error in body["errors"]], body
    return body


async def trained(client: httpx.AsyncClient, train: Train) -> str:
    body = {"input_shape": [25], "layers": LAYERS, "labels": list("0123456789")}
    name = (await client.post("/v1/networks", json=body)).json()["id"]
    assert (await train(name, epochs=5))["status"] == "succeeded"
    return str(name)
