"""Keys, scopes and tenants: every route is closed to who may not."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import SecretStr

from service.application.access.api_keys import Authenticator
from service.bootstrap import build, create_bootstrap_key, prepare
from service.domain.keys import Scope, new_secret
from service.infrastructure.database.engine import SqlDatabase, sqlite_url
from service.settings import Settings
from tests.service.conftest import LAYERS, Json, in_process, on_a_socket, problem

OPEN = {
    "/",
    "/docs",
    "/docs/assets/{path:path}",
    "/healthz",
    "/health",
    "/openapi.json",
    "/ping",
    "/readyz",
    "/swagger.json",
    "/score",
    "/v1/version",
    "/v2",
    "/v2/",
    "/v2/health/live",
    "/v2/health/ready",
    "/version",
}
"""Routes that tell nothing about anybody's things; /score only by OPTIONS."""


class Guarded(NamedTuple):
    app: FastAPI
    client: httpx.AsyncClient
    keys: dict[str, str]
    folder: Path


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    admin = new_secret()
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("guarded"), workers=1, bootstrap_key=SecretStr(admin)
    )
    app = build(settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        keys = {"admin": admin}
        wanted: dict[str, Json] = {
            "reader": {"scopes": ["read"]},
            "ours": {},
            "theirs": {"tenant": "them"},
            "predictor": {"scopes": ["predict"]},
        }
        for name, body in wanted.items():
            answer = await client.post(
                "/v1/keys", json={"name": name} | body, headers=bearer(admin)
            )
            assert answer.status_code == 201, answer.text
            keys[name] = answer.json()["key"]
        yield Guarded(app, client, keys, settings.data_dir)


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Return every method and path of the application."""
    found = [
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    ]
    declared = {route.path for route in app.routes if isinstance(route, APIRoute)}
    return found + [("GET", path) for path in declared - {path for _, path in found}]


def filled(path: str, **ids: str) -> str:
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda match: ids.get(match[1], "0"), path)


async def test_no_route_answers_without_a_key(guarded: Guarded) -> None:
    walked = 0
    for method, path in routes(guarded.app):
        if path in OPEN and method in {"GET", "OPTIONS"}:
            continue
        for headers in (
            {},
            bearer("nrd_000000000000_" + "x" * 43),
            {"Authorization": "Basic eA=="},
        ):
            answer = await guarded.client.request(method, filled(path), headers=headers)
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
        walked += 1
    assert walked > 60


async def test_no_route_answers_with_too_small_a_scope(guarded: Guarded) -> None:
    for method, path in routes(guarded.app):
        if path in OPEN and method in {"GET", "OPTIONS"}:
            continue
        reads = method == "GET" or path == "/v2/repository/index"
        small = "predictor" if reads else "reader"
        kind = {"Content-Type": "application/json"}
        answer = await guarded.client.request(
            method, filled(path), headers={**bearer(guarded.keys[small]), **kind}, content=b"{}"
        )
        assert answer.status_code == 403, (method, path, answer.text)


async def test_another_tenants_things_are_not_there(guarded: Guarded) -> None:
    ours, theirs = bearer(guarded.keys["ours"]), bearer(guarded.keys["theirs"])
    client = guarded.client
    network = (
        await client.post(
            "/v1/networks", json={"name": "n", "input_shape": [25], "layers": LAYERS}, headers=ours
        )
    ).json()
    dataset = (
        await client.post("/v1/datasets", json={"name": "d", "builtin": "digits"}, headers=ours)
    ).json()
    body = {"network": "n", "dataset": "d", "training": {"epochs": 1}}
    job = (await client.post("/v1/jobs", json=body, headers=ours)).json()
    await client.get(f"/v1/jobs/{job['id']}?wait=20", headers=ours)
    ids = {"network": network["id"], "model": network["id"], "dataset": dataset["id"], "ref": "0"}
    ids |= {"job": job["id"], "version": "0", "label": "latest", "alias": "stable"}
    absent = {"network": "net_0", "model": "net_0", "dataset": "ds_0", "job": "job_0"}

    for method, path in routes(guarded.app):
        if not set(re.findall(r"\{(\w+)", path)) & {"network", "model", "dataset", "job"}:
            continue
        answers = [
            await client.request(
                method,
                filled(path, **given) + ("?from=0" if path.endswith("/diff") else ""),
                headers={**theirs, "Content-Type": "application/json"},
                content=_body(path),
            )
            for given in (ids, {**ids, **absent})
        ]
        assert answers[0].status_code == answers[1].status_code, (method, path, answers[0].text)
        assert answers[0].status_code in {404, 403}, (method, path, answers[0].text)
    foreign = {**body, "network": network["id"]}
    answer = await client.post("/v1/jobs", json=foreign, headers=theirs)
    problem(answer, 404, "not_found")
    for path in ("networks", "datasets", "jobs"):
        assert (await client.get(f"/v1/{path}", headers=theirs)).json()["data"] == []


def _body(path: str) -> bytes | None:
    """Return a body that can be used, so that what is asked about is looked for."""
    for end, body in {
        "/weights": b'{"coefs_": [[[1.0]]], "intercepts_": [[1.0]]}',
        "/evaluate": b'{"dataset": "d"}',
        "/gradient-check": b'{"dataset": "d"}',
        "/explain": b'{"inputs": [[1]]}',
        "/classify": b'{"inputs": [[1]]}',
        "/predict": b'{"inputs": [[1]]}',
        "/infer": b"{}",
        "/aliases/{alias}": b'{"version": 0}',
        "/promote": None,
        "/checkpoints": None,
    }.items():
        if path.endswith(end):
            return body
    return b"{}"


async def test_an_admin_sees_what_an_id_names_and_acts_for_a_tenant(guarded: Guarded) -> None:
    theirs, admin = bearer(guarded.keys["theirs"]), bearer(guarded.keys["admin"])
    body = {"input_shape": [2], "layers": LAYERS[-1:]}
    made: Json = (await guarded.client.post("/v1/networks", json=body, headers=theirs)).json()

    seen = await guarded.client.get(f"/v1/networks/{made['id']}", headers=admin)
    acting = {**admin, "X-Neurond-Tenant": "them"}
    listed = (await guarded.client.get("/v1/networks", headers=acting)).json()["data"]

    assert seen.json()["id"] == made["id"]
    assert made["id"] in [network["id"] for network in listed]
    ignored = {**bearer(guarded.keys["ours"]), "X-Neurond-Tenant": "them"}
    answer = await guarded.client.get(f"/v1/networks/{made['id']}", headers=ignored)
    problem(answer, 404, "not_found")


async def test_every_creation_of_a_key_returns_a_secret_that_is_not_stored(
    guarded: Guarded,
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


async def test_a_revoked_or_expired_key_opens_nothing(guarded: Guarded) -> None:
    admin = bearer(guarded.keys["admin"])
    made = (await guarded.client.post("/v1/keys", json={"name": "brief"}, headers=admin)).json()
    soon = (datetime.now(UTC) + timedelta(seconds=1.2)).isoformat()
    brief = {"name": "past", "expires_at": soon}
    expired = (await guarded.client.post("/v1/keys", json=brief, headers=admin)).json()
    await asyncio.sleep(1.3)
    mine = bearer(made["key"])
    assert (await guarded.client.get("/v1/networks", headers=mine)).status_code == 200

    revoked = await guarded.client.delete(f"/v1/keys/{made['id']}", headers=admin)

    assert revoked.json()["revoked_at"] is not None
    problem(await guarded.client.get("/v1/networks", headers=mine), 401, "unauthorized")
    gone = await guarded.client.get("/v1/networks", headers=bearer(expired["key"]))
    problem(gone, 401, "unauthorized")
    listed = (await guarded.client.get("/v1/keys?limit=500", headers=admin)).json()["data"]
    assert made["id"] in [key["id"] for key in listed]
    assert all("key" not in key and "sha256" not in key for key in listed)


async def test_guesses_are_all_told_the_same_and_lock_nobody_out(guarded: Guarded) -> None:
    prefix = guarded.keys["ours"].split("_")[1]
    told = set()
    for number in range(1000):
        stranger = new_secret()
        near = f"nrd_{prefix}_{stranger.split('_', 2)[2]}"
        guess = bearer((near, stranger, f"xyz_{number}")[number % 3])
        answer = await guarded.client.get("/v1/networks", headers=guess)
        body = answer.json()
        body.pop("request_id")
        told.add((answer.status_code, str(body), answer.headers["www-authenticate"]))

    assert [status for status, _, _ in told] == [401]
    for holder in ("ours", "theirs"):
        mine = bearer(guarded.keys[holder])
        assert (await guarded.client.get("/v1/networks", headers=mine)).status_code == 200


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
async def test_keys_that_cannot_be_made_are_refused(
    guarded: Guarded, body: Json, pointer: str
) -> None:
    answer = await guarded.client.post("/v1/keys", json=body, headers=bearer(guarded.keys["admin"]))

    problem(answer, 422, "validation_failed", pointer)


async def test_the_hot_path_asks_for_keys_too(guarded: Guarded) -> None:
    ours = bearer(guarded.keys["ours"])
    body = {"name": "hot", "input_shape": [2], "layers": LAYERS[-1:]}
    assert (await guarded.client.post("/v1/networks", json=body, headers=ours)).status_code == 201
    url, rows = "/v1/networks/hot/classify", {"inputs": [[0.0, 1.0]]}
    async with on_a_socket(guarded.app) as address, httpx.AsyncClient(base_url=address) as client:
        assert (await client.post(url, json=rows, headers=ours)).status_code == 200
        answer = await client.post(url, json=rows, headers=ours)
        assert answer.status_code == 200

        assert (await client.post(url, json=rows)).status_code == 401
        # A key is looked at before the body is there.
        reader_, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        head = f"POST {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nrd_no\r\n"
        writer.write(f"{head}Content-Length: 900\r\n\r\n{{".encode())
        assert b" 401 " in await asyncio.wait_for(reader_.readline(), 5)
        writer.close()
        reader, theirs = bearer(guarded.keys["reader"]), bearer(guarded.keys["theirs"])
        problem(await client.post(url, json=rows, headers=reader), 403, "insufficient_scope")
        problem(await client.post(url, json=rows, headers=theirs), 404, "not_found")


async def test_without_keys_only_this_machine_is_answered(tmp_path: Path) -> None:
    app = build(Settings(data_dir=tmp_path, workers=1))
    async with app.router.lifespan_context(app):
        for address, status in (("127.0.0.1", 200), ("::1", 200), ("10.1.2.3", 401)):
            transport = httpx.ASGITransport(app=app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                assert (await client.get("/v1/networks")).status_code == status
                assert (await client.get("/healthz")).status_code == 200


async def test_a_first_key_is_drawn_into_its_file_once(tmp_path: Path) -> None:
    file = tmp_path / "first-key"
    settings = Settings(data_dir=tmp_path / "data", workers=1, bootstrap_key_file=file)
    secrets = []
    for _ in range(2):
        async with in_process(settings) as client:
            secrets.append(await asyncio.to_thread(file.read_text))
            answer = await client.get("/v1/keys", headers=bearer(secrets[-1].strip()))
            assert len(answer.json()["data"]) == 1

    assert secrets[0] == secrets[1]
    assert file.stat().st_mode & 0o777 == 0o600


async def test_servers_that_start_together_agree_on_the_first_key(tmp_path: Path) -> None:
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


async def test_the_first_key_must_be_able_to_make_others(tmp_path: Path) -> None:
    async with in_process(Settings(data_dir=tmp_path, workers=1)) as client:
        refused = await client.post("/v1/keys", json={"name": "shop", "scopes": ["predict"]})
        problem(refused, 422, "validation_failed", "/scopes")
        assert (await client.get("/v1/networks")).status_code == 200


async def test_an_admin_acts_for_tenants_that_can_be(guarded: Guarded) -> None:
    admin = bearer(guarded.keys["admin"])
    strange = {**admin, "X-Neurond-Tenant": "!! /"}

    problem(await guarded.client.get("/v1/networks", headers=strange), 422, "validation_failed")
