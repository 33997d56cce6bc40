"""Requests a second for each key, and streams at a time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from pydantic import SecretStr

from service.application.access import rate_limits as rates
from service.application.access.rate_limits import RateLimitedError, RateLimiter
from service.bootstrap import build
from service.domain.keys import Caller, new_secret
from service.settings import Settings
from tests.service.conftest import LAYERS, in_process, on_a_socket, problem


class Limited(NamedTuple):
    client: httpx.AsyncClient
    headers: dict[str, str]


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Limited]:
    secret = new_secret()
    settings = Settings(
        data_dir=tmp_path,
        workers=1,
        bootstrap_key=SecretStr(secret),
        rate_limit_read=5.0,
        rate_limit_predict=5.0,
        rate_limit_upload=1.0,
        rate_limit_auth_failures=5.0,
        max_streams_per_tenant=2,
    )
    app = build(settings)
    async with (
        app.router.lifespan_context(app),
        on_a_socket(app) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        yield Limited(client, {"Authorization": f"Bearer {secret}"})


async def test_a_key_that_asks_too_often_is_told_when_to_come_back(limited: Limited) -> None:
    answers = [await limited.client.get("/v1/networks", headers=limited.headers) for _ in range(30)]

    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    refused = next(answer for answer in answers if answer.status_code != 200)
    problem(refused, 429, "rate_limited")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-policy"] == '"read";q=5;w=1'
    assert refused.headers["ratelimit"] == '"read";r=0;t=1'
    assert (await limited.client.get("/healthz")).status_code == 200
    # Other classes have buckets of their own.
    body = {"name": "n", "input_shape": [25], "layers": LAYERS}
    answer = await limited.client.post("/v1/networks", json=body, headers=limited.headers)
    assert answer.status_code == 201


async def test_uploads_are_counted_by_themselves(limited: Limited) -> None:
    rows = {"inputs": [[0.0], [1.0]], "targets": [[0.0], [1.0]]}
    answers = [
        await limited.client.post(
            "/v1/datasets", json=rows | {"name": name}, headers=limited.headers
        )
        for name in "abcd"
    ]

    assert [answer.status_code for answer in answers[:2]] == [201, 201]
    refused = problem(answers[-1], 429, "rate_limited")
    assert "upload" in refused["detail"]
    body = {"name": "n", "input_shape": [25], "layers": LAYERS}
    answer = await limited.client.post("/v1/networks", json=body, headers=limited.headers)
    assert answer.status_code == 201


async def test_who_guesses_too_often_is_told_so_and_keys_of_that_address_go_on(
    limited: Limited,
) -> None:
    guesses = [
        await limited.client.get(
            "/v1/networks", headers={"Authorization": f"Bearer {new_secret()}"}
        )
        for _ in range(30)
    ]

    assert [guess.status_code for guess in guesses[:10]] == [401] * 10
    refused = next(guess for guess in guesses if guess.status_code != 401)
    problem(refused, 429, "rate_limited")
    assert refused.headers["ratelimit-policy"] == '"auth";q=5;w=1'
    answer = await limited.client.get("/v1/networks", headers=limited.headers)
    assert answer.status_code == 200


def test_callers_who_were_quiet_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_BUCKETS", 2)
    limits = RateLimiter({"auth": 0.5}, 1, 1)
    for address in ("a", "b", "c"):
        limits.record_failure(address)

    limits.record_failure("a")  # is new again
    with pytest.raises(RateLimitedError):
        limits.record_failure("c")


async def test_the_hot_path_is_limited_too(limited: Limited) -> None:
    body = {"name": "n", "input_shape": [25], "layers": LAYERS}
    await limited.client.post("/v1/networks", json=body, headers=limited.headers)
    rows = {"inputs": [[0.0] * 25]}
    url = "/v1/networks/n/classify"
    assert (await limited.client.post(url, json=rows, headers=limited.headers)).is_success
    for _ in range(8):  # a bad one is counted once, though two roads look at it
        bad = await limited.client.post(url, json={"inputs": [[0.0]]}, headers=limited.headers)
        assert bad.status_code == 422
    await asyncio.sleep(1.0)

    told = [
        (await limited.client.post("/v1/networks/n/classify", json=rows, headers=limited.headers))
        for _ in range(30)
    ]

    assert told[0].status_code == 200
    problem(next(answer for answer in told if answer.status_code != 200), 429, "rate_limited")


async def test_a_tenant_queues_so_many_jobs_and_its_neighbour_others(tmp_path: Path) -> None:
    admin = new_secret()
    settings = Settings(
        data_dir=tmp_path, workers=1, bootstrap_key=SecretStr(admin), max_queued_jobs_per_tenant=2
    )
    async with in_process(settings) as client:
        client.headers["Authorization"] = f"Bearer {admin}"
        for tenant in ("default", "other"):
            acting = {"X-Neurond-Tenant": tenant}
            body = {"name": "n", "input_shape": [2], "layers": LAYERS[-1:]}
            await client.post("/v1/networks", json=body, headers=acting)
            job = {
                "network": "n",
                "inputs": [[0, 1], [1, 0]] * 20,
                "targets": [0, 1] * 20,
                "training": {"epochs": 100_000, "early_stopping": None},
            }
            answers = [await client.post("/v1/jobs", json=job, headers=acting) for _ in range(5)]

            refused = next(answer for answer in answers if answer.status_code != 202)
            problem(refused, 429, "queue_full")
            assert refused.headers["retry-after"] == "5"
            queued = [answer.json() for answer in answers if answer.status_code == 202]
            assert len(queued) >= 2
            assert queued[-1]["queue_seconds"] is None


async def test_a_tenant_runs_so_many_jobs_and_leaves_the_other_worker_alone(tmp_path: Path) -> None:
    admin = new_secret()
    settings = Settings(
        data_dir=tmp_path, workers=2, bootstrap_key=SecretStr(admin), max_running_jobs_per_tenant=1
    )
    job = {
        "network": "n",
        "inputs": [[0, 1], [1, 0]] * 20,
        "targets": [0, 1] * 20,
        "training": {"epochs": 100_000, "early_stopping": None},
    }
    async with in_process(settings) as client:
        client.headers["Authorization"] = f"Bearer {admin}"
        made = {}
        for tenant in ("default", "other"):
            acting = {"X-Neurond-Tenant": tenant}
            body = {"name": "n", "input_shape": [2], "layers": LAYERS[-1:]}
            await client.post("/v1/networks", json=body, headers=acting)
            jobs = [await client.post("/v1/jobs", json=job, headers=acting) for _ in range(2)]
            made[tenant] = [answer.json()["id"] for answer in jobs]

        async def status(job_id: str) -> str:
            return str((await client.get(f"/v1/jobs/{job_id}")).json()["status"])

        for first, _ in made.values():
            while await status(first) != "running":
                await asyncio.sleep(0.02)
        assert [await status(second) for _, second in made.values()] == ["queued", "queued"]
        await client.post(f"/v1/jobs/{made['other'][0]}/cancel")
        while await status(made["other"][1]) != "running":
            await asyncio.sleep(0.02)
        assert await status(made["default"][1]) == "queued"


def test_buckets_fill_as_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("service.application.access.rate_limits.time.monotonic", lambda: now[0])
    rates = RateLimiter({"read": 2.0, "write": 0.0, "predict": 2.0}, 10, 10)
    caller = Caller("t", frozenset(), "key_1")

    for _ in range(4):
        rates.acquire(caller, "read")
    with pytest.raises(RateLimitedError):
        rates.acquire(caller, "read")
    now[0] = 0.5
    rates.acquire(caller, "read")
    rates.acquire(Caller("t", frozenset(), "key_2"), "read")
    for _ in range(100):
        rates.acquire(caller, "write")
        rates.acquire(Caller("t", frozenset()), "read")


def test_places_for_streams_come_back() -> None:
    rates = RateLimiter({"read": 0, "write": 0, "predict": 0}, 3, 2)

    with rates.stream("a"), rates.stream("a"):
        with pytest.raises(RateLimitedError, match="tenant"), rates.stream("a"):
            pass
        with (
            rates.stream("b"),
            pytest.raises(RateLimitedError, match="at most 3"),
            rates.stream("c"),
        ):
            pass
    assert rates.streams() == 0
    with rates.stream("a"):
        assert rates.streams() == 1


async def test_a_finished_stream_gives_its_place_back(limited: Limited) -> None:
    body = {"name": "n", "input_shape": [25], "layers": LAYERS}
    await limited.client.post("/v1/networks", json=body, headers=limited.headers)
    digits = {"name": "d", "builtin": "digits"}
    await limited.client.post("/v1/datasets", json=digits, headers=limited.headers)
    job = {"network": "n", "dataset": "d", "training": {"epochs": 2}}
    made = (await limited.client.post("/v1/jobs", json=job, headers=limited.headers)).json()

    for _ in range(4):
        path = f"/v1/jobs/{made['id']}/events"
        answer = await limited.client.get(path, headers=limited.headers)
        assert answer.status_code == 200
        await asyncio.sleep(0.25)
