"""Retention periods and quotas over HTTP."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from service.application.retention.retention import RetentionService
from service.domain.keys import new_secret
from service.domain.retention import Retention
from service.settings import Settings
from tests.service.conftest import (
    FOREVER,
    LAYERS,
    GuardedApp,
    Json,
    bearer,
    in_process,
    problem,
    submit,
    wait_for_status,
    wait_until_finished,
)
from tests.waiting import wait_until

NOW = timedelta(0)
NEVER = Retention(None, None, None, None, None, None)
NETWORK = {"input_shape": [25], "layers": LAYERS}


async def collect(app: FastAPI, **periods: timedelta) -> dict[str, int]:
    """Delete what has expired, with no other periods than these."""
    settings = dict.fromkeys(Retention.__slots__) | periods
    return await RetentionService(app.state.services.database, Retention(**settings)).collect()


async def age(app: FastAPI, job: str, days: float) -> None:
    """Make a job look as if it had ended days ago."""
    async with app.state.services.database.write() as work:
        stored = await work.jobs.get(job)
        finished = datetime.now(UTC) - timedelta(days=days)
        await work.jobs.update(stored, finished_at=finished)


async def checkpoints_of(client: httpx.AsyncClient, job: str) -> list[Json]:
    listed = (await client.get(f"/v1/jobs/{job}/checkpoints")).json()["data"]
    return [entry for entry in listed if entry["id"] != "best"]


async def test_checkpoints_are_dropped_when_a_job_succeeds_except_requested_ones(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, epochs=100_000, early_stopping=None,
                       limits={"seconds": 3.0})  # fmt: skip
    await wait_for_status(client, job["id"], "running")
    requested = (await client.post(f"/v1/jobs/{job['id']}/checkpoints")).json()

    finished = await wait_until_finished(client, job["id"])

    assert finished["status"] == "succeeded"
    assert await checkpoints_of(client, job["id"]) == [requested]


async def test_the_last_checkpoint_of_a_cancelled_job_is_retained_for_a_week(
    app: FastAPI, client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = (await submit(client, network, digits, **FOREVER))["id"]

    async def has_two() -> bool:
        return len(await checkpoints_of(client, job)) == 2

    await wait_until(has_two)
    await client.post(f"/v1/jobs/{job}/cancel")
    await wait_until_finished(client, job)

    assert len(await checkpoints_of(client, job)) == 1
    await collect(app, checkpoints=NOW)
    assert len(await checkpoints_of(client, job)) == 1
    await age(app, job, 8)
    assert (await collect(app, checkpoints=NOW))["last_checkpoints"] >= 1
    assert await checkpoints_of(client, job) == []
    assert (await client.get(f"/v1/jobs/{job}")).json()["status"] == "cancelled"


async def test_events_frames_and_jobs_expire(app: FastAPI, client: httpx.AsyncClient) -> None:
    layers = [{"type": "dense", "units": 1, "activation": "sigmoid"}]
    network = (
        await client.post("/v1/networks", json={"input_shape": [2], "layers": layers})
    ).json()
    body = {
        "network": network["id"],
        "inputs": [[0.0, 0.0], [1.0, 1.0]] * 30,
        "targets": ["a", "b"] * 30,
        "training": {"epochs": 30, "boundary": {"resolution": 8}},
    }
    job = (await client.post("/v1/jobs", json=body)).json()["id"]
    await wait_until_finished(client, job)
    events = f"/v1/jobs/{job}/events?limit=1000"
    headers = {"Accept": "application/json"}

    async def kinds() -> set[str]:
        page = (await client.get(events, headers=headers)).json()
        return {event["type"] for event in page["data"]}

    assert {"boundary", "epoch", "end"} <= await kinds()
    await collect(app, boundary_frames=timedelta(days=7))
    assert "boundary" in await kinds()
    await age(app, job, 8)
    assert (await collect(app, boundary_frames=timedelta(days=7)))["boundary_frames"] > 0
    assert "boundary" not in await kinds()
    assert "epoch" in await kinds()
    assert (await collect(app, events=timedelta(days=7)))["events"] > 0
    assert await kinds() == {"state", "end"}
    assert (await client.get(f"/v1/jobs/{job}/history")).json()["epoch"] == []
    dataset = (await client.get(f"/v1/jobs/{job}")).json()["dataset_id"]
    await collect(app, inline_datasets=NOW)
    assert (await client.get(f"/v1/datasets/{dataset}")).status_code == 200
    assert (await collect(app, jobs=timedelta(days=7)))["jobs"] >= 1
    problem(await client.get(f"/v1/jobs/{job}"), 404, "not_found")
    assert (await collect(app, inline_datasets=NOW))["inline_datasets"] >= 1
    problem(await client.get(f"/v1/datasets/{dataset}"), 404, "not_found")
    assert (await client.get(f"{network['links']['self']}/versions/1")).status_code == 200


async def test_demonstrations_expire_and_nothing_else_does(
    app: FastAPI, client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    demo = (await client.post("/v1/networks", json={**NETWORK, "demo": True})).json()
    assert demo["demo"]
    job = await submit(client, demo, digits, epochs=1)
    assert job["demo"]
    running = await submit(client, demo, digits, **FOREVER)
    await wait_until_finished(client, job["id"])

    await collect(app, demos=NOW)
    assert (await client.get(demo["links"]["self"])).status_code == 200  # a job is active
    await client.post(f"/v1/jobs/{running['id']}/cancel")
    await wait_until_finished(client, running["id"])
    counts = await collect(app, demos=NOW)

    assert counts["demo_networks"] == 1
    problem(await client.get(demo["links"]["self"]), 404, "not_found")
    problem(await client.get(f"/v1/jobs/{running['id']}"), 404, "not_found")
    assert (await client.get(network["links"]["self"])).status_code == 200


async def test_demonstrations_run_one_at_a_time_and_are_not_the_only_network(
    tmp_path: Path,
) -> None:
    async with in_process(Settings(data_dir=tmp_path, workers=2)) as client:
        network = (await client.post("/v1/networks", json=NETWORK)).json()
        demo = (await client.post("/v1/networks", json={**NETWORK, "demo": True})).json()
        data = {"builtin": "digits", "samples": 100, "seed": 1}
        digits = (await client.post("/v1/datasets", json=data)).json()["id"]
        scored = await client.post("/invocations", json={"instances": [[0.5] * 25]})
        assert scored.status_code == 200, scored.text

        first = await submit(client, demo, digits, **FOREVER)
        await wait_for_status(client, first["id"], "running")
        second = await submit(client, demo, digits, epochs=1)
        other = await submit(client, network, digits, epochs=1)
        await wait_until_finished(client, other["id"])

        assert (await client.get(f"/v1/jobs/{second['id']}")).json()["status"] == "queued"
        await client.post(f"/v1/jobs/{first['id']}/cancel")
        assert (await wait_until_finished(client, second["id"]))["status"] == "succeeded"


async def test_a_dry_run_counts_and_deletes_nothing(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, epochs=1)
    await wait_until_finished(client, job["id"])

    body = (await client.post("/v1/gc", params={"dry_run": True})).json()

    assert body["dry_run"]
    expiring = {"demo_jobs", "demo_networks", "boundary_frames", "inline_datasets"}
    assert set(body["deleted"]) == expiring | {"checkpoints", "last_checkpoints"}
    assert (await client.get(f"/v1/jobs/{job['id']}")).status_code == 200


async def test_only_an_admin_may_collect(guarded: GuardedApp) -> None:
    reader = bearer(guarded.keys["ours"])

    problem(await guarded.client.post("/v1/gc", headers=reader), 403, "insufficient_scope")


async def test_metrics_are_for_their_own_scope(guarded: GuardedApp) -> None:
    admin = bearer(guarded.keys["admin"])
    created = await guarded.client.post(
        "/v1/keys", json={"name": "scraper", "scopes": ["metrics"]}, headers=admin
    )
    scraper = bearer(created.json()["key"])

    assert (await guarded.client.get("/metrics", headers=scraper)).status_code == 200
    assert (await guarded.client.get("/metrics", headers=admin)).status_code == 200
    for key in ("reader", "ours", "predictor"):
        refused = await guarded.client.get("/metrics", headers=bearer(guarded.keys[key]))
        problem(refused, 403, "insufficient_scope")
    refused = await guarded.client.get("/v1/networks", headers=scraper)
    problem(refused, 403, "insufficient_scope")


async def test_a_key_for_metrics_is_written_to_its_file(tmp_path: Path) -> None:
    file = tmp_path / "metrics-key"
    settings = Settings(
        data_dir=tmp_path / "data",
        workers=1,
        bootstrap_key=SecretStr(new_secret()),
        metrics_key_file=file,
    )
    secrets = []
    for _ in range(2):  # the second start uses the same key
        async with in_process(settings) as client:
            secrets.append(file.read_text().strip())
            headers = bearer(secrets[-1])
            assert (await client.get("/metrics", headers=headers)).status_code == 200
            assert (await client.get("/v1/networks", headers=headers)).status_code == 403
    assert secrets[0] == secrets[1]
    assert file.stat().st_mode & 0o077 == 0


async def test_stored_bytes_are_measured_by_kind(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics")).text

    for kind in ("weights", "datasets", "checkpoints", "database"):
        assert f'neurond_stored_bytes{{kind="{kind}"}}' in text


async def with_quotas(guarded: GuardedApp, tenant: str, **quotas: int) -> dict[str, str]:
    """Return the headers of a new key of a tenant with quotas."""
    body = {"name": tenant, "tenant": tenant, "quotas": quotas}
    admin = bearer(guarded.keys["admin"])
    created = await guarded.client.post("/v1/keys", json=body, headers=admin)
    assert created.status_code == 201, created.text
    assert created.json()["quotas"] == quotas
    return bearer(created.json()["key"])


async def test_a_tenant_stores_no_more_than_its_quotas(guarded: GuardedApp) -> None:
    client = guarded.client
    key = await with_quotas(guarded, "small", networks=1, datasets=1, bytes=200_000)
    first = await client.post("/v1/networks", json=NETWORK, headers=key)
    assert first.status_code == 201
    body = problem(
        await client.post("/v1/networks", json=NETWORK, headers=key), 403, "quota_exceeded"
    )
    assert (body["quota"], body["limit"], body["used"]) == ("networks", 1, 1)
    large = {"builtin": "digits", "samples": 50_000}  # 60 bytes that store 10 MB
    refused = await client.post("/v1/datasets", json=large, headers=key)
    assert problem(refused, 403, "quota_exceeded")["quota"] == "bytes"
    assert (await client.post("/v1/datasets", json={"builtin": "xor"}, headers=key)).is_success
    refused = await client.post("/v1/datasets", json={"builtin": "xor"}, headers=key)
    assert problem(refused, 403, "quota_exceeded")["quota"] == "datasets"
    inline = {
        "network": first.json()["id"],
        "inputs": [[0.5] * 25] * 1200,
        "targets": [str(n % 10) for n in range(1200)],
    }
    refused = await client.post("/v1/jobs", json=inline, headers=key)
    assert problem(refused, 403, "quota_exceeded")["quota"] == "bytes"
    document = (await client.get(f"/v1/networks/{first.json()['id']}/weights", headers=key)).json()
    path = f"/v1/networks/{first.json()['id']}/weights"
    uploads = [await client.put(path, json=document, headers=key) for _ in range(180)]
    assert uploads[0].status_code == 201
    problem(uploads[-1], 403, "quota_exceeded")
    deleted = await client.delete(f"/v1/networks/{first.json()['id']}", headers=key)
    assert deleted.status_code == 204
    assert (await client.post("/v1/networks", json=NETWORK, headers=key)).status_code == 201
    other = await with_quotas(guarded, "other")
    for _ in range(2):
        assert (await client.post("/v1/networks", json=NETWORK, headers=other)).is_success


async def test_a_promoted_checkpoint_counts(guarded: GuardedApp) -> None:
    client = guarded.client
    key = await with_quotas(guarded, "promoting", bytes=100_000)
    client.headers.update(key)
    try:
        network = (await client.post("/v1/networks", json=NETWORK)).json()
        data = {"builtin": "digits", "samples": 100}
        dataset = (await client.post("/v1/datasets", json=data)).json()["id"]
        job = (await submit(client, network, dataset, **FOREVER))["id"]
        await wait_for_status(client, job, "running")
        await client.post(f"/v1/jobs/{job}/cancel")
        await wait_until_finished(client, job)
        taken = (await checkpoints_of(client, job))[0]["id"]

        path = f"/v1/jobs/{job}/checkpoints/{taken}/promote"
        statuses = [(await client.post(path)).status_code for _ in range(100)]
    finally:
        del client.headers["Authorization"]

    assert (statuses[0], statuses[-1]) == (201, 403)


async def test_the_newest_key_sets_the_quotas_of_its_tenant(guarded: GuardedApp) -> None:
    old = await with_quotas(guarded, "changing", networks=0)
    await with_quotas(guarded, "changing", networks=1)

    created = await guarded.client.post("/v1/networks", json=NETWORK, headers=old)

    assert created.status_code == 201


@pytest.mark.parametrize("quotas", [{"networks": -1}, {"rows": 1}, {"bytes": "1"}, {"bytes": 1.5}])
async def test_invalid_quotas_are_refused(guarded: GuardedApp, quotas: Json) -> None:
    admin = bearer(guarded.keys["admin"])

    response = await guarded.client.post("/v1/keys", json={"quotas": quotas}, headers=admin)

    problem(response, 422, "validation_failed")


async def test_the_running_jobs_of_a_tenant_are_limited_by_its_key(tmp_path: Path) -> None:
    admin = new_secret()
    settings = Settings(data_dir=tmp_path, workers=2, bootstrap_key=SecretStr(admin))
    async with in_process(settings) as client:
        body = {"name": "one", "tenant": "one", "quotas": {"running_jobs": 1}}
        created = await client.post("/v1/keys", json=body, headers=bearer(admin))
        client.headers.update(bearer(created.json()["key"]))
        network = (await client.post("/v1/networks", json=NETWORK)).json()
        data = {"builtin": "digits", "samples": 100}
        digits = (await client.post("/v1/datasets", json=data)).json()["id"]

        first = await submit(client, network, digits, **FOREVER)
        await wait_for_status(client, first["id"], "running")
        second = await submit(client, network, digits, epochs=1)

        async def waited() -> bool:
            return bool(
                (await client.get(f"/v1/jobs/{first['id']}")).json()["progress"]["epoch"] > 50
            )

        await wait_until(waited)
        assert (await client.get(f"/v1/jobs/{second['id']}")).json()["status"] == "queued"
        await client.post(f"/v1/jobs/{first['id']}/cancel")
        assert (await wait_until_finished(client, second["id"]))["status"] == "succeeded"
