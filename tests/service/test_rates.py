"""Rate limits of keys, and limits of concurrent streams, queued jobs and running jobs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from pydantic import SecretStr

from service.application.access import rate_limits
from service.application.access.rate_limits import RateLimitedError, RateLimiter
from service.bootstrap import build
from service.domain.keys import Caller, new_secret
from service.settings import Settings
from tests.service.conftest import LAYERS, in_process, problem, serve_on_socket, wait_for_status


class LimitedApp(NamedTuple):
    client: httpx.AsyncClient
    headers: dict[str, str]


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[LimitedApp]:
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
        serve_on_socket(app) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        yield LimitedApp(client, {"Authorization": f"Bearer {secret}"})


async def test_a_rate_limited_key_gets_a_retry_time(limited: LimitedApp) -> None:
    responses = [
        await limited.client.get("/v1/networks", headers=limited.headers) for _ in range(30)
    ]

    assert [response.status_code for response in responses[:10]] == [200] * 10
    refused = next(response for response in responses if response.status_code != 200)
    problem(refused, 429, "rate_limited")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-policy"] == '"read";q=5;w=1'
    assert refused.headers["ratelimit"] == '"read";r=0;t=1'
    assert (await limited.client.get("/healthz")).status_code == 200
    # Each class of requests has its own bucket.
    body = {"name": "n", "input_shape": [25], "layers": LAYERS}
    response = await limited.client.post("/v1/networks", json=body, headers=limited.headers)
    assert response.status_code == 201


async def test_uploads_have_their_own_limit(limited: LimitedApp) -> None:
    rows = {"inputs": [[0.0], [1.0]], "targets": [[0.0], [1.0]]}
    responses = [
        await limited.client.post(
            "/v1/datasets", json=rows | {"name": name}, headers=limited.headers
        )
        for name in "abcd"
    ]

    assert [response.status_code for response in responses[:2]] == [201, 201]
    refused = problem(responses[-1], 429, "rate_limited")
    assert "upload" in refused["detail"]
    body = {"name": "n", "input_shape": [25], "layers": LAYERS}
    response = await limited.client.post("/v1/networks", json=body, headers=limited.headers)
    assert response.status_code == 201


async def test_failed_authentications_are_limited_without_blocking_valid_keys(
    limited: LimitedApp,
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
    response = await limited.client.get("/v1/networks", headers=limited.headers)
    assert response.status_code == 200


def test_the_least_recently_used_bucket_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_BUCKETS", 2)
    limits = RateLimiter({"auth": 0.5}, 1, 1)
    for address in ("a", "b", "c"):
        limits.record_failure(address)

    limits.record_failure("a")  # accepted: its bucket was evicted
    with pytest.raises(RateLimitedError):
        limits.record_failure("c")


async def test_the_inference_pipeline_is_rate_limited(limited: LimitedApp) -> None:
    body = {"name": "n", "input_shape": [25], "layers": LAYERS}
    await limited.client.post("/v1/networks", json=body, headers=limited.headers)
    rows = {"inputs": [[0.0] * 25]}
    url = "/v1/networks/n/classify"
    assert (await limited.client.post(url, json=rows, headers=limited.headers)).is_success
    for _ in range(8):  # an invalid request counts once, although two handlers parse it
        bad = await limited.client.post(url, json={"inputs": [[0.0]]}, headers=limited.headers)
        assert bad.status_code == 422
    await asyncio.sleep(1.0)  # the bucket refills

    responses = [
        (await limited.client.post("/v1/networks/n/classify", json=rows, headers=limited.headers))
        for _ in range(30)
    ]

    assert responses[0].status_code == 200
    problem(
        next(response for response in responses if response.status_code != 200), 429, "rate_limited"
    )


async def test_each_tenant_has_its_own_limit_of_queued_jobs(tmp_path: Path) -> None:
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
            responses = [await client.post("/v1/jobs", json=job, headers=acting) for _ in range(5)]

            refused = next(response for response in responses if response.status_code != 202)
            problem(refused, 429, "queue_full")
            assert refused.headers["retry-after"] == "5"
            queued = [response.json() for response in responses if response.status_code == 202]
            assert len(queued) >= 2
            assert queued[-1]["queue_seconds"] is None


async def test_a_tenant_at_its_limit_of_running_jobs_leaves_the_other_worker_free(
    tmp_path: Path,
) -> None:
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
        created = {}
        for tenant in ("default", "other"):
            acting = {"X-Neurond-Tenant": tenant}
            body = {"name": "n", "input_shape": [2], "layers": LAYERS[-1:]}
            await client.post("/v1/networks", json=body, headers=acting)
            jobs = [await client.post("/v1/jobs", json=job, headers=acting) for _ in range(2)]
            created[tenant] = [response.json()["id"] for response in jobs]

        async def status(job_id: str) -> str:
            return str((await client.get(f"/v1/jobs/{job_id}")).json()["status"])

        for first, _ in created.values():
            await wait_for_status(client, first, "running")
        assert [await status(second) for _, second in created.values()] == ["queued", "queued"]
        await client.post(f"/v1/jobs/{created['other'][0]}/cancel")
        await wait_for_status(client, created["other"][1], "running")
        assert await status(created["default"][1]) == "queued"


def test_buckets_refill_over_time_and_each_key_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_open_streams_are_limited_per_tenant_and_in_total() -> None:
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


async def test_finished_streams_do_not_count_toward_the_limit(limited: LimitedApp) -> None:
    body = {"name": "n", "input_shape": [25], "layers": LAYERS}
    await limited.client.post("/v1/networks", json=body, headers=limited.headers)
    digits = {"name": "d", "builtin": "digits"}
    await limited.client.post("/v1/datasets", json=digits, headers=limited.headers)
    job = {"network": "n", "dataset": "d", "training": {"epochs": 2}}
    created = (await limited.client.post("/v1/jobs", json=job, headers=limited.headers)).json()

    for _ in range(4):
        path = f"/v1/jobs/{created['id']}/events"
        response = await limited.client.get(path, headers=limited.headers)
        assert response.status_code == 200
        await asyncio.sleep(0.25)  # stay below the read limit of 5 requests per second
