"""``neurond keys``: on a stopped server's data folder, or through a running server."""

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from service.application.access.api_keys import Authenticator
from service.application.ports import Page
from service.bootstrap import open_authenticator, prepare
from service.cli.exits import fail
from service.domain.errors import ServiceError
from service.domain.keys import DEFAULT_TENANT, Key, Scope, new_secret
from service.infrastructure.data_directory import (
    DataDirectory,
    DataDirectoryError,
    DataDirectoryLockedError,
)
from service.infrastructure.database.errors import DatabaseUnusableError
from service.settings import Settings

Result = TypeVar("Result")


@click.group()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder that holds everything.")
@click.pass_context
def keys(context: click.Context, data_dir: Path | None) -> None:
    """Make, list and revoke API keys.

    While a server holds the folder, the command asks that server; NEUROND_API_KEY then holds an
    admin key, where there are keys already.
    """
    context.obj = Settings() if data_dir is None else Settings(data_dir=data_dir)


@keys.command()
@click.argument("name", default="key")
@click.option("--tenant", default=DEFAULT_TENANT, help="Whose networks, datasets and jobs it sees.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it may do; repeat it. Else read, predict and train, and for the first key admin.",
)
@click.option("--expires", type=click.DateTime(), help="When it stops to work, UTC.")
@click.pass_obj
def create(
    settings: Settings, name: str, tenant: str, scopes: tuple[str, ...], expires: datetime | None
) -> None:
    """Make a key called NAME and print it, once."""
    chosen = list(scopes) or [Scope.READ.value, Scope.PREDICT.value, Scope.TRAIN.value]
    at = None if expires is None else expires.replace(tzinfo=UTC)

    async def offline(authenticator: Authenticator) -> str:
        first = [*chosen, Scope.ADMIN.value] if authenticator.anonymous and not scopes else chosen
        return (await authenticator.create(name, tenant=tenant, scopes=first, expires_at=at))[1]

    def online() -> str:
        body = {"name": name, "tenant": tenant, "scopes": chosen}
        if at is not None:
            body["expires_at"] = at.isoformat()
        return str(_ask(settings, "POST", "/v1/keys", body)["key"])

    click.echo(_either(settings, offline, online))


@keys.command("list")
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """List the keys, newest first; never the keys themselves."""

    async def offline(authenticator: Authenticator) -> list[dict[str, Any]]:
        return [_told(key) for key in await authenticator.list_keys(Page(500))]

    def online() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = _ask(settings, "GET", "/v1/keys?limit=500")["data"]
        return told

    _there(settings)
    found = _either(settings, offline, online)
    if not found:
        click.echo(f"there are no keys in {settings.data_dir.absolute()}", err=True)
    for key in found:
        expiry = f"until {key['expires_at']}" if key["expires_at"] else "no expiry"
        state = "revoked" if key["revoked_at"] else expiry
        scopes = ",".join(key["scopes"])
        click.echo(f"{key['id']}  {key['tenant']}  {scopes}  {state}  {key['name']}")


@keys.command()
@click.argument("key_id")
@click.pass_obj
def revoke(settings: Settings, key_id: str) -> None:
    """Let the key KEY_ID open nothing any more."""

    async def offline(authenticator: Authenticator) -> None:
        await authenticator.revoke(key_id)

    def online() -> None:
        _ask(settings, "DELETE", f"/v1/keys/{key_id}")

    _there(settings)
    _either(settings, offline, online)
    click.echo(f"{key_id} is revoked")


@keys.command()
def generate() -> None:
    """Print a new key that is stored nowhere, for NEUROND_BOOTSTRAP_KEY."""
    click.echo(new_secret())


def _there(settings: Settings) -> None:
    """Refuse to look for keys where nothing was ever kept: the folder is another one."""
    if settings.database_url is None and not DataDirectory(settings.data_dir).database.exists():
        fail(f"there is no database in {settings.data_dir.absolute()}")


def _either(
    settings: Settings,
    offline: Callable[[Authenticator], Awaitable[Result]],
    online: Callable[[], Result],
) -> Result:
    """Work on the folder when it is free, else through the server that holds it."""

    async def run() -> Result:
        async with open_authenticator(settings, folder) as authenticator:
            return await offline(authenticator)

    try:
        folder = prepare(settings)
    except DataDirectoryLockedError:
        return online()
    except (DataDirectoryError, DatabaseUnusableError) as error:
        fail(str(error))
    try:
        return asyncio.run(run())
    except ServiceError as error:
        fail(error.detail)
    finally:
        folder.release()


def _ask(settings: Settings, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Return the running server's answer."""
    address = (settings.data_dir / "address").read_text().strip()
    request = urllib.request.Request(  # noqa: S310 - the server's own address
        address + path, None if body is None else json.dumps(body).encode(), method=method
    )
    request.add_header("Content-Type", "application/json")
    if "NEUROND_API_KEY" in os.environ:
        request.add_header("Authorization", f"Bearer {os.environ['NEUROND_API_KEY']}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            told: dict[str, Any] = json.load(answer)
            return told
    except urllib.error.HTTPError as error:
        detail = json.load(error).get("detail", error.reason)
        fail(f"the server at {address} says: {detail}")
    except OSError as error:
        fail(f"the server at {address} does not answer: {error}")


def _told(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "scopes": key.scopes,
        "name": key.name,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
