"""What is PostgreSQL's alone: a database that is held, or away. All else runs over both stores."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from pydantic import SecretStr

from service.settings import Settings
from tests import postgres
from tests.service.conftest import LAYERS, in_process, problem


class World(NamedTuple):
    server: postgres.Postgres
    client: httpx.AsyncClient


@pytest.fixture
async def world(own_postgres: postgres.Postgres, tmp_path: Path) -> AsyncIterator[World]:
    url = SecretStr(own_postgres.create("away"))
    async with in_process(Settings(data_dir=tmp_path, workers=1, database_url=url)) as client:
        yield World(own_postgres, client)


async def test_a_database_that_is_away_is_told_of_soon_and_found_again(world: World) -> None:
    body = {"name": "kept", "input_shape": [25], "layers": LAYERS}
    assert (await world.client.post("/v1/networks", json=body)).status_code == 201
    row = {"inputs": [[0.5] * 25]}
    assert (await world.client.post("/v1/networks/kept/classify", json=row)).status_code == 200

    world.server.stop()
    begun = time.monotonic()
    refused = await world.client.post("/v1/networks", json={**body, "name": "other"})
    listed = await world.client.get("/v1/networks")
    took = time.monotonic() - begun

    for answer in (refused, listed):
        problem(answer, 503, "storage_unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert took < 5
    assert (await world.client.get("/healthz")).status_code == 200
    assert (await world.client.get("/readyz")).status_code == 503
    assert (await world.client.post("/v1/networks/kept/classify", json=row)).status_code == 200

    world.server.start()
    async with asyncio.timeout(10):
        while (await world.client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)
    again = await world.client.post("/v1/networks", json={**body, "name": "other"})
    assert again.status_code == 201
    assert (await world.client.get("/v1/networks/kept")).status_code == 200


def refused_start(folder: Path, url: str) -> str:
    command = [sys.executable, "-m", "service", "--port=0", f"--data-dir={folder}"]
    ended = subprocess.run(  # noqa: S603 - our own command
        command,
        env={"NEUROND_DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    return ended.stderr


def test_a_database_that_does_not_answer_ends_the_start_with_one_line(tmp_path: Path) -> None:
    pytest.importorskip("asyncpg", reason="asyncpg is not installed")

    told = refused_start(tmp_path, "postgresql://user:secret@127.0.0.1:9/none")

    assert told.count("\n") == 1
    assert "secret" not in told
