"""Jumps of the system's clock: ids, idempotency and leases."""

import time
from datetime import datetime, timedelta
from unittest.mock import Mock

import httpx
import pytest
from fastapi import FastAPI

from service.application.ports.repositories import StoredResponse
from service.domain.identifiers import new_id
from service.infrastructure.database import clock, idempotency, jobs
from tests.service.conftest import Json, submit, wait_until_finished

DAY = 86_400 * 1_000_000_000


def test_ids_follow_the_order_of_creation_when_the_clock_jumps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = time.time_ns
    ids = []
    for jump in (0, DAY, -DAY, -400 * DAY, 0):
        monkeypatch.setattr(time, "time_ns", lambda jump=jump: real() + jump)
        ids += [new_id("job") for _ in range(3)]

    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


async def test_the_latest_job_is_the_one_created_last_when_the_clock_jumps_back(
    client: httpx.AsyncClient, network: Json, digits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit(client, network, digits, epochs=1)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - DAY)

    last = await submit(client, network, digits, epochs=1)

    assert (await client.get("/v1/jobs/latest")).json()["id"] == last["id"]
    await wait_until_finished(client, last["id"])


@pytest.mark.parametrize("jump", [timedelta(days=3), timedelta(days=-3)])
async def test_a_jump_of_the_clock_neither_expires_nor_revives_anything(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    jumped = Mock(now=lambda zone: datetime.now(zone) + jump)
    response = StoredResponse("digest", 201, {}, b"{}")
    async with app.state.services.database.write() as work:
        await work.idempotency.add("default", f"before {jump}", response)
        for module in (clock, idempotency, jobs):
            monkeypatch.setattr(module, "datetime", jumped, raising=False)
        await work.idempotency.add("default", f"after {jump}", response)

        for key in (f"before {jump}", f"after {jump}"):
            assert await work.idempotency.get("default", key) is not None
