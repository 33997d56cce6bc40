"""Two real server processes with one PostgreSQL database and one blob directory."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import postgres
from tests.acceptance.server import Server
from tests.waiting import block_until

pytestmark = pytest.mark.slow
LAYERS = [
    {"type": "dense", "units": 32, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
FOREVER = {"epochs": 100_000, "early_stopping": None}
ROW = {"inputs": [[0.5] * 25]}


@pytest.fixture
def pair(own_postgres: postgres.Postgres, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    # The option is for SQLAlchemy; the notification listener must ignore it.
    database = own_postgres.create(f"db{time.time_ns()}") + "?prepared_statement_cache_size=0"
    environment = {"NEUROND_DATABASE_URL": database}
    servers = [Server(tmp_path / "data", workers=1, environment=environment) for _ in range(2)]
    for server in servers:
        server.start()
    yield servers[0], servers[1]
    for server in servers:
        server.client.close()
        server.kill()


def prepare(server: Server) -> None:
    """Create a network and a dataset."""
    body = {"name": "net", "input_shape": [25], "layers": LAYERS, "seed": 1}
    assert server.client.post("/v1/networks", json=body).status_code == 201
    data = {"name": "digits", "builtin": "digits", "samples": 2000, "seed": 1}
    assert server.client.post("/v1/datasets", json=data).status_code == 201


def submit(server: Server, **training: Any) -> str:
    body = {"network": "net", "dataset": "digits", "training": training}
    response = server.client.post("/v1/jobs", json=body)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def test_changes_on_one_server_are_visible_on_the_other(pair: tuple[Server, Server]) -> None:
    first, second = pair
    prepare(first)
    document = json.loads(first.client.get("/v1/networks/net/weights").content)
    del document["sha256"]
    first.client.put("/v1/networks/net/aliases/stable", json={"version": 0})
    path = "/v1/networks/net/versions/stable/classify"
    assert [server.client.post(path, json=ROW).json()["version"] for server in pair] == [0, 0]

    assert first.client.put("/v1/networks/net/weights", json=document).status_code == 201
    first.client.put("/v1/networks/net/aliases/stable", json={"version": 1})

    block_until(lambda: second.client.post(path, json=ROW).json()["version"] == 1, timeout=1.0)
    latest = second.client.post("/v1/networks/net/classify", json=ROW).json()
    assert latest["version"] == 1
    assert second.client.delete("/v1/networks/net").status_code == 204
    block_until(lambda: first.client.post(path, json=ROW).status_code == 404, timeout=1.0)


def test_two_servers_share_jobs_and_stream_events_of_both(pair: tuple[Server, Server]) -> None:
    first, second = pair
    prepare(first)
    jobs = [submit(first, **FOREVER, seed=seed) for seed in range(2)]
    for job in jobs:  # each server has one worker, so both servers train
        first.wait_for_status(job, "running", epoch=50)

    for job in jobs:
        for server in pair:
            with httpx.stream("GET", f"{server.url}/v1/jobs/{job}/events", timeout=10) as stream:
                epochs, started = 0, time.monotonic()
                for line in stream.iter_lines():
                    epochs += line == "event: epoch"
                    if epochs > 200:
                        break
                assert time.monotonic() - started < 10

    for job, server in zip(jobs, pair, strict=True):
        assert server.client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    for job, server in zip(jobs, (second, first), strict=True):
        assert server.wait_until_finished(job)["status"] == "cancelled"


def test_both_servers_serve_the_live_version_and_take_checkpoints(
    pair: tuple[Server, Server],
) -> None:
    first, second = pair
    prepare(first)
    job = submit(first, **FOREVER)
    first.wait_for_status(job, "running", epoch=50)
    path = "/v1/networks/net/versions/live/predict"
    initial = first.client.post("/v1/networks/net/versions/0/predict", json=ROW).json()["outputs"]

    for server in pair:  # one of them trains the job
        begun = time.monotonic()
        checkpoint = server.client.post(f"/v1/jobs/{job}/checkpoints")
        assert checkpoint.status_code == 201, checkpoint.text
        assert time.monotonic() - begun < 3
        assert server.client.post(path, json=ROW).json()["outputs"] != initial
        version = server.client.get("/v1/networks/net/versions/live").json()
        assert version["job"] == job
        assert server.client.get("/v1/networks/net/versions/live/weights").status_code == 200

    second.client.post(f"/v1/jobs/{job}/cancel")
    first.wait_until_finished(job)
    for server in pair:
        assert server.client.post(path, json=ROW).json()["outputs"] == initial


def test_a_job_of_a_killed_server_is_finished_by_the_other(
    pair: tuple[Server, Server],
) -> None:
    first, second = pair
    prepare(first)
    training = {"epochs": 1500, "early_stopping": {"patience": 100_000}, "seed": 3}
    reference = first.wait_until_finished(submit(first, **training))
    digest = first.client.get("/v1/networks/net/versions/latest").json()["weights_sha256"]
    body = {"name": "second", "input_shape": [25], "layers": LAYERS, "seed": 1}
    first.client.post("/v1/networks", json=body)
    busy = submit(first, **FOREVER, seed=9)
    first.wait_for_status(busy, "running", epoch=1)
    job = first.client.post(
        "/v1/jobs", json={"network": "second", "dataset": "digits", "training": training}
    ).json()["id"]
    first.wait_for_status(job, "running", epoch=100)

    second.kill()  # it trained one of the two jobs
    first.client.post(f"/v1/jobs/{busy}/cancel")
    ended = first.wait_until_finished(job)

    assert reference["status"] == ended["status"] == "succeeded"
    version = first.client.get("/v1/networks/second/versions/latest").json()
    assert version["weights_sha256"] == digest
    assert first.wait_until_finished(busy)["status"] == "cancelled"
