"""API keys, scopes and tenants: every route checks them."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.application.access.api_keys import Authenticator
from service.bootstrap import create_bootstrap_key, prepare
from service.domain.keys import Scope, new_secret
from service.infrastructure.database.engine import SqlDatabase, sqlite_url
from service.settings import Settings
from tests.service.conftest import (
    GuardedApp,
    Json,
    bearer,
    in_process,
    problem,
)
from tests.waiting import wait_until


async def test_every_creation_of_a_key_returns_a_secret_that_is_not_stored(
    guarded: GuardedApp,
) -> None:
    repeated = {**bearer(guarded.keys["admin"]), "Idempotency-Key": "one key"}
    body = {"name": "twice", "scopes": ["admin"]}

    first = await guarded.client.post("/v1/keys", json=body, headers=repeated)
    second = await guarded.client.post("/v1/keys", json=body, headers=repeated)

    assert first.status_code == second.status_code == 201
    assert first.json()["id"] != second.json()["id"]
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["location"] == f"/v1/keys/{first.json()['id']}"
    stored = guarded.folder / "neurond.sqlite3"
    secret = first.json()["key"].rpartition("_")[2].encode()
    written = b"".join(file.read_bytes() for file in stored.parent.glob("neurond.sqlite3*"))
    assert first.json()["prefix"].encode() in written
    assert secret not in written
    mine = await guarded.client.get("/v1/networks", headers=bearer(first.json()["key"]))
    assert mine.status_code == 200


async def test_a_revoked_or_expired_key_is_rejected(guarded: GuardedApp) -> None:
    admin = bearer(guarded.keys["admin"])
    created = (await guarded.client.post("/v1/keys", json={"name": "brief"}, headers=admin)).json()
    soon = (datetime.now(UTC) + timedelta(seconds=1.2)).isoformat()
    expiring = {"name": "past", "expires_at": soon}
    expired = (await guarded.client.post("/v1/keys", json=expiring, headers=admin)).json()

    async def has_expired() -> bool:
        headers = bearer(expired["key"])
        response = await guarded.client.get("/v1/networks", headers=headers)
        return response.status_code == 401

    await wait_until(has_expired)
    headers = bearer(created["key"])
    assert (await guarded.client.get("/v1/networks", headers=headers)).status_code == 200

    revoked = await guarded.client.delete(f"/v1/keys/{created['id']}", headers=admin)

    assert revoked.json()["revoked_at"] is not None
    problem(await guarded.client.get("/v1/networks", headers=headers), 401, "unauthorized")
    gone = await guarded.client.get("/v1/networks", headers=bearer(expired["key"]))
    problem(gone, 401, "unauthorized")
    listed = (await guarded.client.get("/v1/keys?limit=500", headers=admin)).json()["data"]
    assert created["id"] in [key["id"] for key in listed]
    assert all("key" not in key and "sha256" not in key for key in listed)


async def test_wrong_keys_get_identical_responses_and_do_not_lock_out_other_keys(
    guarded: GuardedApp,
) -> None:
    prefix = guarded.keys["ours"].split("_")[1]
    results = set()
    for number in range(1000):
        unknown = new_secret()
        near = f"nrd_{prefix}_{unknown.split('_', 2)[2]}"
        guess = bearer((near, unknown, f"xyz_{number}")[number % 3])
        response = await guarded.client.get("/v1/networks", headers=guess)
        body = response.json()
        body.pop("request_id")
        results.add((response.status_code, str(body), response.headers["www-authenticate"]))

    assert [status for status, _, _ in results] == [401]
    for holder in ("ours", "theirs"):
        headers = bearer(guarded.keys[holder])
        assert (await guarded.client.get("/v1/networks", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"scopes": []}, "/scopes"),
        ({"tenant": "A B"}, "/tenant"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "0294-08-05T02:05:20Z"}, "/expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "/expires_at"),
        ({"expires_at": "2030-W01-1T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "/expires_at"),
        ({"id": "key_1"}, "/id"),
    ],
)
async def test_invalid_key_requests_are_rejected(
    guarded: GuardedApp, body: Json, pointer: str
) -> None:
    response = await guarded.client.post(
        "/v1/keys", json=body, headers=bearer(guarded.keys["admin"])
    )

    problem(response, 422, "validation_failed", pointer)


async def test_the_bootstrap_key_is_generated_once(tmp_path: Path) -> None:
    file = tmp_path / "first-key"
    settings = Settings(data_dir=tmp_path / "data", workers=1, bootstrap_key_file=file)
    secrets = []
    for _ in range(2):
        async with in_process(settings) as client:
            secrets.append(await asyncio.to_thread(file.read_text))
            response = await client.get("/v1/keys", headers=bearer(secrets[-1].strip()))
            assert len(response.json()["data"]) == 1

    assert secrets[0] == secrets[1]
    assert file.stat().st_mode & 0o777 == 0o600


async def test_servers_that_start_together_create_one_bootstrap_key(tmp_path: Path) -> None:
    folder = prepare(Settings(data_dir=tmp_path / "data"))
    database, file = SqlDatabase(sqlite_url(folder.database)), tmp_path / "key"
    settings = Settings(data_dir=tmp_path / "data", bootstrap_key_file=file)
    servers = [Authenticator(database, anywhere=False) for _ in range(5)]

    await asyncio.gather(*(create_bootstrap_key(settings, access) for access in servers))

    authorization = f"Bearer {file.read_text().strip()}"
    for access in servers:
        assert Scope.ADMIN in access.authenticate(authorization, "127.0.0.1").scopes
    async with database.read() as work:
        assert len(await work.keys.every()) == 1
    left = await asyncio.to_thread(lambda: {path.name for path in tmp_path.iterdir()})
    assert left == {"data", "key"}
    await database.close()
    folder.release()


async def test_the_first_key_must_have_the_admin_scope(tmp_path: Path) -> None:
    async with in_process(Settings(data_dir=tmp_path, workers=1)) as client:
        refused = await client.post("/v1/keys", json={"name": "shop", "scopes": ["predict"]})
        problem(refused, 422, "validation_failed", "/scopes")
        assert (await client.get("/v1/networks")).status_code == 200
