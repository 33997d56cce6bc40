"""Power cuts and disk errors at every operation of a real server."""

import errno
import hashlib
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.infrastructure.database.tables import BLOBS
from tests.acceptance.server import Server
from tests.power.disk import SHORT_WRITE, Disk, Log, Operation, Switch, compile_library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the library needs Linux"),
    pytest.mark.skipif(
        not (shutil.which("cc") or shutil.which("gcc")), reason="a C compiler is not installed"
    ),
]
LAYERS = [
    {"type": "dense", "units": 6, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
REQUEST_ERRORS = {503, 507}


class WatchedServer:
    """A server whose file operations are logged and can fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"
        self.folder.mkdir()
        self.log, self.switch = Log(folder / "log"), Switch(folder / "control")
        self.server = Server(
            self.folder,
            workers=1,
            environment={
                "LD_PRELOAD": str(compile_library(folder)),
                "DISK_ROOT": str(self.folder),
                "DISK_LOG": str(self.log.path),
                "DISK_CONTROL": str(folder / "control"),
            },
        )


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[WatchedServer]:
    watched = WatchedServer(tmp_path)
    watched.server.start()
    yield watched
    watched.server.client.close()
    watched.server.kill()


def create(
    client: httpx.Client, acknowledge: Callable[[Any], None], turn: int
) -> list[httpx.Response]:
    """Create one resource of each kind, and acknowledge each success as it is returned."""
    responses = []

    def send(kind: str, path: str, method: str = "POST", **body: Any) -> Any:
        response = client.request(method, path, json=body or None)
        responses.append(response)
        if response.status_code >= 300:
            return None
        created = response.json()
        acknowledge([kind, created.get("id") or [created["network_id"], created["version"]]])
        return created

    name = f"n{turn}"
    send("networks", "/v1/networks", name=name, input_shape=[25], layers=LAYERS, seed=turn)
    send("datasets", "/v1/datasets", name=f"d{turn}", builtin="digits", samples=60, seed=turn)
    document = client.get(f"/v1/networks/{name}/weights")
    if document.status_code == 200:
        changed = json.loads(document.content)
        changed["layers"][0]["biases"][0] = float(turn + 1)
        del changed["sha256"]
        send("versions", f"/v1/networks/{name}/weights", "PUT", **changed)
    training = {"epochs": 3, "validation_fraction": 0.0, "early_stopping": None}
    send("jobs", "/v1/jobs", network=name, dataset=f"d{turn}", training=training)
    return responses


def problems(folder: Path, acknowledged: list[Any]) -> list[str]:
    """Return the problems of a data directory, given the acknowledged requests."""
    database = folder / "neurond.sqlite3"
    if not database.exists():
        return (
            [f"the database is missing after {acknowledged} was acknowledged"]
            if acknowledged
            else []
        )
    connection = sqlite3.connect(database)
    try:
        integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if integrity != "ok" or not acknowledged:
            return [] if integrity == "ok" else [integrity]
        return [*lost_rows(connection, acknowledged), *lost_blobs(connection, folder / "blobs")]
    finally:
        connection.close()


def lost_rows(connection: sqlite3.Connection, acknowledged: list[Any]) -> Iterator[str]:
    for kind, name in acknowledged:
        query, values = f"SELECT 1 FROM {kind} WHERE id = ?", [name]  # noqa: S608
        if kind == "versions":
            query, values = "SELECT 1 FROM versions WHERE network_id = ? AND number = ?", name
        if connection.execute(query, values).fetchone() is None:
            yield f"{kind} {name} was acknowledged and is lost"


def lost_blobs(connection: sqlite3.Connection, blobs: Path) -> Iterator[str]:
    for column in BLOBS:
        query = f"SELECT DISTINCT {column.name} FROM {column.table.name}"  # noqa: S608
        for (blob,) in connection.execute(query):
            file = blobs / blob[:2] / blob[2:]
            if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != blob:
                yield f"{column} names {blob}, which is lost"


def record_operations(watched: WatchedServer) -> list[Operation]:
    """Return the operations of a server that created resources, trained and was stopped."""
    client = watched.server.client
    for turn in range(6):
        assert all(
            response.is_success for response in create(client, watched.log.acknowledge, turn)
        )
        job = client.get("/v1/jobs/latest").json()["id"]
        ended = watched.server.wait_until_finished(job)
        assert ended["status"] == "succeeded"
        watched.log.acknowledge(["versions", [ended["network_id"], ended["result_version"]]])
        if turn % 2:
            promoted = f"/v1/networks/n{turn}/aliases/stable"
            assert client.put(promoted, json={"version": 1}).is_success
    watched.server.stop()
    return list(watched.log.operations())


def cut_everywhere(disk: Disk, operations: list[Operation], folder: Path) -> Iterator[str]:
    """Yield the problems after a power cut at each moment."""
    acknowledged = list[Any]()
    for number, operation in enumerate(operations):
        disk.apply(operation)
        if operation.op == "acknowledge":
            acknowledged.append(operation.acknowledged)
        target = folder / f"cut{number}"
        disk.write_durable_state(target)
        yield from [
            f"after {number} {operation.op}: {text}" for text in problems(target, acknowledged)
        ]
        shutil.rmtree(target)
    assert len(acknowledged) > 20
    assert len(operations) > 300


def test_no_acknowledged_change_is_lost_in_a_power_cut(
    watched: WatchedServer, tmp_path: Path
) -> None:
    operations = record_operations(watched)

    for seed in (None, 1, 2):
        assert [*cut_everywhere(Disk(watched.folder, seed), operations, tmp_path)] == []
    # The check must be able to fail: without any fsync, it finds losses.
    careless = [operation for operation in operations if operation.op != "sync"]
    assert any(cut_everywhere(Disk(watched.folder), careless, tmp_path / "careless"))
    # It also finds losses when directories are never fsynced.
    folders = {operation.ino for operation in operations if operation.op == "mkdir"}
    nameless = [part for part in operations if part.op != "sync" or part.ino not in folders]
    assert any(cut_everywhere(Disk(watched.folder), nameless, tmp_path / "nameless"))


def test_a_server_starts_and_serves_after_a_power_cut(
    watched: WatchedServer, tmp_path: Path
) -> None:
    operations = record_operations(watched)
    disk, acknowledged = Disk(watched.folder), list[Any]()
    moments = set(range(1, len(operations), len(operations) // 6))

    for number, operation in enumerate(operations):
        disk.apply(operation)
        acknowledged += [operation.acknowledged] if operation.op == "acknowledge" else []
        if number not in moments:
            continue
        target = tmp_path / f"cut{number}"
        disk.write_durable_state(target)
        server = Server(target, workers=1).start()
        for kind, name in acknowledged:
            if kind == "networks":
                row = {"inputs": [[0.5] * 25]}
                response = server.client.post(f"/v1/networks/{name}/classify", json=row)
                assert response.status_code == 200, response.text
        assert all(response.is_success for response in create(server.client, lambda _: None, 99))
        server.client.close()
        server.stop()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, SHORT_WRITE])
def test_no_acknowledged_change_is_lost_when_an_operation_fails(
    watched: WatchedServer, code: int
) -> None:
    client, acknowledged, failures, rejected = watched.server.client, list[Any](), 0, 0
    without_failure, at = 0, 0
    while without_failure < 2:
        at += 1
        watched.switch.fail(at, code)
        responses = create(client, acknowledged.append, at)
        has_failed = watched.switch.heal()
        without_failure = 0 if has_failed else without_failure + 1
        failures += has_failed
        for response in responses:
            assert response.is_success or response.status_code in REQUEST_ERRORS | {404, 422}, (
                response.text
            )
            rejected += response.status_code in REQUEST_ERRORS
            if response.status_code == 503:
                assert int(response.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200
        again = create(client, acknowledged.append, 10_000 + at)
        assert all(response.is_success for response in again), [response.text for response in again]

    assert failures > 10
    assert rejected > 5
    for kind, name in acknowledged:
        if kind == "jobs":
            assert watched.server.wait_until_finished(name)["status"] in {"succeeded", "failed"}
    watched.server.stop()
    assert problems(watched.folder, acknowledged) == []
