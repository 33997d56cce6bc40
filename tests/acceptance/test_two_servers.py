"""Two servers on one PostgreSQL database and one folder of blobs, as real processes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import postgres
from tests.acceptance.server import Server

pytestmark = pytest.mark.slow
LAYERS = [
    {"type": "dense", "units": 32, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
FOREVER = {"epochs": 100_000, "early_stopping": None}
ROW = {"inputs": [[0.5] * 25]}


@pytest.fixture
def pair(own_postgres: postgres.Postgres, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    # The option is SQLAlchemy's: listening to the other server must not stumble over it.
    database = own_postgres.create(f"db{time.time_ns()}") + "?prepared_statement_cache_size=0"
    environment = {"NEUROND_DATABASE_URL": database}
    made = [Server(tmp_path / "data", workers=1, environment=environment) for _ in range(2)]
    for server in made:
        server.start()
    yield made[0], made[1]
    for server in made:
        server.client.close()
        server.kill()


def prepare(server: Server) -> None:
    """Make a network and a dataset."""
    body = {"name": "net", "input_shape": [25], "layers": LAYERS, "seed": 1}
    assert server.client.post("/v1/networks", json=body).status_code == 201
    data = {"name": "digits", "builtin": "digits", "samples": 2000, "seed": 1}
    assert server.client.post("/v1/datasets", json=data).status_code == 201


def submit(server: Server, **training: Any) -> str:
    body = {"network": "net", "dataset": "digits", "training": training}
    answer = server.client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def soon(told: Any) -> None:
    """Wait until something is so, which it must be within a second."""
    until = time.monotonic() + 1.0
    while not told():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_each_sees_what_the_other_changes(pair: tuple[Server, Server]) -> None:
    one, other = pair
    prepare(one)
    document = json.loads(one.client.get("/v1/networks/net/weights").content)
    del document["sha256"]
    one.client.put("/v1/networks/net/aliases/stable", json={"version": 0})
    path = "/v1/networks/net/versions/stable/classify"
    assert [server.client.post(path, json=ROW).json()["version"] for server in pair] == [0, 0]

    assert one.client.put("/v1/networks/net/weights", json=document).status_code == 201
    one.client.put("/v1/networks/net/aliases/stable", json={"version": 1})

    soon(lambda: other.client.post(path, json=ROW).json()["version"] == 1)
    latest = other.client.post("/v1/networks/net/classify", json=ROW).json()
    assert latest["version"] == 1
    assert other.client.delete("/v1/networks/net").status_code == 204
    soon(lambda: one.client.post(path, json=ROW).status_code == 404)


def test_they_share_the_work_and_tell_of_each_others(pair: tuple[Server, Server]) -> None:
    one, other = pair
    prepare(one)
    jobs = [submit(one, **FOREVER, seed=seed) for seed in range(2)]
    for job in jobs:  # one worker each: so both servers work
        one.reaches(job, "running", epoch=50)

    for job in jobs:
        for server in pair:
            with httpx.stream("GET", f"{server.url}/v1/jobs/{job}/events", timeout=10) as stream:
                epochs, begun = 0, time.monotonic()
                for line in stream.iter_lines():
                    epochs += line == "event: epoch"
                    if epochs > 200:
                        break
                assert time.monotonic() - begun < 10

    for job, server in zip(jobs, pair, strict=True):
        assert server.client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    for job, server in zip(jobs, (other, one), strict=True):
        assert server.ended(job)["status"] == "cancelled"


def test_a_job_is_seen_live_and_saved_on_request_from_the_other(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    prepare(one)
    job = submit(one, **FOREVER)
    one.reaches(job, "running", epoch=50)
    path = "/v1/networks/net/versions/live/predict"
    initial = one.client.post("/v1/networks/net/versions/0/predict", json=ROW).json()["outputs"]

    for server in pair:  # one of them has the worker
        begun = time.monotonic()
        taken = server.client.post(f"/v1/jobs/{job}/checkpoints")
        assert taken.status_code == 201, taken.text
        assert time.monotonic() - begun < 3
        assert server.client.post(path, json=ROW).json()["outputs"] != initial
        version = server.client.get("/v1/networks/net/versions/live").json()
        assert version["job"] == job
        assert server.client.get("/v1/networks/net/versions/live/weights").status_code == 200

    other.client.post(f"/v1/jobs/{job}/cancel")
    one.ended(job)
    for server in pair:
        assert server.client.post(path, json=ROW).json()["outputs"] == initial


def test_what_a_killed_server_worked_on_is_finished_by_the_other(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    prepare(one)
    wanted = {"epochs": 1500, "early_stopping": {"patience": 100_000}, "seed": 3}
    twin = one.ended(submit(one, **wanted))
    digest = one.client.get("/v1/networks/net/versions/latest").json()["weights_sha256"]
    body = {"name": "second", "input_shape": [25], "layers": LAYERS, "seed": 1}
    one.client.post("/v1/networks", json=body)
    busy = submit(one, **FOREVER, seed=9)
    one.reaches(busy, "running", epoch=1)
    job = one.client.post(
        "/v1/jobs", json={"network": "second", "dataset": "digits", "training": wanted}
    ).json()["id"]
    one.reaches(job, "running", epoch=100)

    other.kill()  # whichever of the two it worked on
    one.client.post(f"/v1/jobs/{busy}/cancel")
    ended = one.ended(job)

    assert twin["status"] == ended["status"] == "succeeded"
    made = one.client.get("/v1/networks/second/versions/latest").json()
    assert made["weights_sha256"] == digest
    assert one.ended(busy)["status"] == "cancelled"
