"""The power goes, and the disk fails, at every operation of a real server."""

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
from tests.power.disk import SHORT_WRITE, Disk, Log, Operation, Switch, built

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the library is made for Linux"),
    pytest.mark.skipif(
        not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler"
    ),
]
LAYERS = [
    {"type": "dense", "units": 6, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
REQUEST_ERRORS = {503, 507}


class Stage:
    """A server on the watched disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"
        self.folder.mkdir()
        self.log, self.switch = Log(folder / "log"), Switch(folder / "control")
        self.server = Server(
            self.folder,
            workers=1,
            environment={
                "LD_PRELOAD": str(built(folder)),
                "DISK_ROOT": str(self.folder),
                "DISK_LOG": str(self.log.path),
                "DISK_CONTROL": str(folder / "control"),
            },
        )


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    made.server.start()
    yield made
    made.server.client.close()
    made.server.kill()


def create(client: httpx.Client, tell: Callable[[Any], None], turn: int) -> list[httpx.Response]:
    """Create one of everything, and tell what was answered for, as it is answered."""
    answers = []

    def ask(kind: str, path: str, method: str = "POST", **body: Any) -> Any:
        answer = client.request(method, path, json=body or None)
        answers.append(answer)
        if answer.status_code >= 300:
            return None
        told = answer.json()
        tell([kind, told.get("id") or [told["network_id"], told["version"]]])
        return told

    name = f"n{turn}"
    ask("networks", "/v1/networks", name=name, input_shape=[25], layers=LAYERS, seed=turn)
    ask("datasets", "/v1/datasets", name=f"d{turn}", builtin="digits", samples=60, seed=turn)
    document = client.get(f"/v1/networks/{name}/weights")
    if document.status_code == 200:
        changed = json.loads(document.content)
        changed["layers"][0]["biases"][0] = float(turn + 1)
        del changed["sha256"]
        ask("versions", f"/v1/networks/{name}/weights", "PUT", **changed)
    training = {"epochs": 3, "validation_fraction": 0.0, "early_stopping": None}
    ask("jobs", "/v1/jobs", network=name, dataset=f"d{turn}", training=training)
    return answers


def problems(folder: Path, told: list[Any]) -> list[str]:
    """Return what is wrong with a folder in which all of this was acknowledged."""
    database = folder / "neurond.sqlite3"
    if not database.exists():
        return [f"there is no database, and {told} was told"] if told else []
    connection = sqlite3.connect(database)
    try:
        integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if integrity != "ok" or not told:
            return [] if integrity == "ok" else [integrity]
        return [*lost_rows(connection, told), *lost_blobs(connection, folder / "blobs")]
    finally:
        connection.close()


def lost_rows(connection: sqlite3.Connection, told: list[Any]) -> Iterator[str]:
    for kind, name in told:
        query, values = f"SELECT 1 FROM {kind} WHERE id = ?", [name]  # noqa: S608
        if kind == "versions":
            query, values = "SELECT 1 FROM versions WHERE network_id = ? AND number = ?", name
        if connection.execute(query, values).fetchone() is None:
            yield f"{kind} {name} was told and is lost"


def lost_blobs(connection: sqlite3.Connection, blobs: Path) -> Iterator[str]:
    for column in BLOBS:
        query = f"SELECT DISTINCT {column.name} FROM {column.table.name}"  # noqa: S608
        for (blob,) in connection.execute(query):
            file = blobs / blob[:2] / blob[2:]
            if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != blob:
                yield f"{column} names {blob}, which is lost"


def recorded(stage: Stage) -> list[Operation]:
    """Return what a server did that created, trained and was stopped."""
    client = stage.server.client
    for turn in range(6):
        assert all(answer.is_success for answer in create(client, stage.log.told, turn))
        job = client.get("/v1/jobs/latest").json()["id"]
        ended = stage.server.ended(job)
        assert ended["status"] == "succeeded"
        stage.log.told(["versions", [ended["network_id"], ended["result_version"]]])
        if turn % 2:
            promoted = f"/v1/networks/n{turn}/aliases/stable"
            assert client.put(promoted, json={"version": 1}).is_success
    stage.server.stop()
    return list(stage.log.operations())


def cut_everywhere(disk: Disk, operations: list[Operation], folder: Path) -> Iterator[str]:
    """Yield what is wrong after a power cut, for each moment."""
    told = list[Any]()
    for number, operation in enumerate(operations):
        disk.apply(operation)
        if operation.op == "told":
            told.append(operation.told)
        after = folder / f"cut{number}"
        disk.survives_in(after)
        yield from [f"after {number} {operation.op}: {text}" for text in problems(after, told)]
        shutil.rmtree(after)
    assert len(told) > 20
    assert len(operations) > 300


def test_whenever_the_power_goes_nothing_is_lost_that_was_answered_for(
    stage: Stage, tmp_path: Path
) -> None:
    operations = recorded(stage)

    for seed in (None, 1, 2):
        assert [*cut_everywhere(Disk(stage.folder, seed), operations, tmp_path)] == []
    # A cut that never finds anything is no evidence: here, no fsync reaches the disk.
    careless = [operation for operation in operations if operation.op != "sync"]
    assert any(cut_everywhere(Disk(stage.folder), careless, tmp_path / "careless"))
    # And here, names do not: a folder is never fsynced.
    folders = {operation.ino for operation in operations if operation.op == "mkdir"}
    nameless = [part for part in operations if part.op != "sync" or part.ino not in folders]
    assert any(cut_everywhere(Disk(stage.folder), nameless, tmp_path / "nameless"))


def test_a_server_starts_on_what_a_power_cut_leaves(stage: Stage, tmp_path: Path) -> None:
    operations = recorded(stage)
    disk, told = Disk(stage.folder), list[Any]()
    moments = set(range(1, len(operations), len(operations) // 6))

    for number, operation in enumerate(operations):
        disk.apply(operation)
        told += [operation.told] if operation.op == "told" else []
        if number not in moments:
            continue
        after = tmp_path / f"cut{number}"
        disk.survives_in(after)
        server = Server(after, workers=1).start()
        for kind, name in told:
            if kind == "networks":
                row = {"inputs": [[0.5] * 25]}
                answer = server.client.post(f"/v1/networks/{name}/classify", json=row)
                assert answer.status_code == 200, answer.text
        assert all(answer.is_success for answer in create(server.client, lambda _: None, 99))
        server.client.close()
        server.stop()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, SHORT_WRITE])
def test_whichever_operation_fails_the_server_goes_on_and_keeps_its_word(
    stage: Stage, code: int
) -> None:
    client, told, failed, refused = stage.server.client, list[Any](), 0, 0
    quiet, at = 0, 0
    while quiet < 2:
        at += 1
        stage.switch.fail(at, code)
        answers = create(client, told.append, at)
        happened = stage.switch.heal()
        quiet = 0 if happened else quiet + 1
        failed += happened
        for answer in answers:
            assert answer.is_success or answer.status_code in REQUEST_ERRORS | {404, 422}, (
                answer.text
            )
            refused += answer.status_code in REQUEST_ERRORS
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200
        again = create(client, told.append, 10_000 + at)
        assert all(answer.is_success for answer in again), [answer.text for answer in again]

    assert failed > 10
    assert refused > 5
    for kind, name in told:
        if kind == "jobs":
            assert stage.server.ended(name)["status"] in {"succeeded", "failed"}
    stage.server.stop()
    assert problems(stage.folder, told) == []
