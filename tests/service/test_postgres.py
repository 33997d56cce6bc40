"""PostgreSQL only: an unavailable database. All other tests run on both databases."""

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
from tests.waiting import wait_until


class PostgresService(NamedTuple):
    server: postgres.Postgres
    client: httpx.AsyncClient


@pytest.fixture
async def service(
    own_postgres: postgres.Postgres, tmp_path: Path
) -> AsyncIterator[PostgresService]:
    url = SecretStr(own_postgres.create("away"))
    async with in_process(Settings(data_dir=tmp_path, workers=1, database_url=url)) as client:
        yield PostgresService(own_postgres, client)


async def test_an_unavailable_database_is_reported_quickly_and_recovers(
    service: PostgresService,
) -> None:
    body = {"name": "cached", "input_shape": [25], "layers": LAYERS}
    assert (await service.client.post("/v1/networks", json=body)).status_code == 201
    row = {"inputs": [[0.5] * 25]}
    assert (await service.client.post("/v1/networks/cached/classify", json=row)).status_code == 200

    service.server.stop()
    begun = time.monotonic()
    refused = await service.client.post("/v1/networks", json={**body, "name": "other"})
    listed = await service.client.get("/v1/networks")
    seconds = time.monotonic() - begun

    for response in (refused, listed):
        problem(response, 503, "storage_unavailable")
        assert int(response.headers["retry-after"]) > 0
    assert seconds < 5
    assert (await service.client.get("/healthz")).status_code == 200
    assert (await service.client.get("/readyz")).status_code == 503
    assert (await service.client.post("/v1/networks/cached/classify", json=row)).status_code == 200

    service.server.start()

    async def is_ready() -> bool:
        return (await service.client.get("/readyz")).status_code == 200

    await wait_until(is_ready, timeout=10)
    again = await service.client.post("/v1/networks", json={**body, "name": "other"})
    assert again.status_code == 201
    assert (await service.client.get("/v1/networks/cached")).status_code == 200


def failed_start(folder: Path, url: str) -> str:
    command = [sys.executable, "-m", "service", "--port=0", f"--data-dir={folder}"]
    completed = subprocess.run(  # noqa: S603 - our own command
        command,
        env={"NEUROND_DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode == 2
    return completed.stderr


def test_an_unreachable_database_fails_the_start_without_the_password(tmp_path: Path) -> None:
    pytest.importorskip("asyncpg", reason="asyncpg is not installed")

    stderr = failed_start(tmp_path, "postgresql://user:secret@127.0.0.1:9/none")

    assert stderr.count("\n") == 1
    assert "secret" not in stderr
