"""``neurond keys``: on the data directory, or through the server that is running on it."""

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
from service.application.ports.repositories import Page
from service.bootstrap import open_authenticator, prepare
from service.cli.exits import fail
from service.domain.errors import ServiceError
from service.domain.keys import DEFAULT_TENANT, Key, Scope, new_secret
from service.domain.retention import QUOTA_NAMES
from service.infrastructure.data_directory import (
    DataDirectory,
    DataDirectoryError,
    DataDirectoryLockedError,
)
from service.infrastructure.database.errors import DatabaseUnusableError
from service.settings import Settings

Result = TypeVar("Result")


@click.group()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Directory for all data.")
@click.pass_context
def keys(context: click.Context, data_dir: Path | None) -> None:
    """Create, list and revoke API keys.

    While a server is running on the data directory, the command calls that server. Set
    NEUROND_API_KEY to an admin key then, unless no key exists yet.
    """
    context.obj = Settings() if data_dir is None else Settings(data_dir=data_dir)


@keys.command()
@click.argument("name", default="key")
@click.option(
    "--tenant",
    default=DEFAULT_TENANT,
    help="Tenant whose networks, datasets and jobs it can access.",
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="Scope of the key; can be repeated. Default: read, predict and train; the first key also "
    "gets admin.",
)
@click.option(
    "--quota",
    "quotas",
    multiple=True,
    metavar="KIND=NUMBER",
    help=f"Quota of the tenant: {', '.join(QUOTA_NAMES)}; can be repeated.",
)
@click.option("--expires", type=click.DateTime(), help="Expiry time in UTC.")
@click.pass_obj
def create(
    settings: Settings,
    name: str,
    tenant: str,
    scopes: tuple[str, ...],
    quotas: tuple[str, ...],
    expires: datetime | None,
) -> None:
    """Create a key called NAME and print it. It cannot be shown again."""
    requested = list(scopes) or [Scope.READ.value, Scope.PREDICT.value, Scope.TRAIN.value]
    at = None if expires is None else expires.replace(tzinfo=UTC)
    limits = _quotas_of(quotas)

    async def offline(authenticator: Authenticator) -> str:
        granted = requested
        if authenticator.anonymous and not scopes:
            granted = [*requested, Scope.ADMIN.value]
        options = {"scopes": granted, "expires_at": at, "quotas": limits or None}
        return (await authenticator.create(name, tenant=tenant, **options))[1]

    def online() -> str:
        body: dict[str, Any] = {"name": name, "tenant": tenant, "scopes": requested}
        if limits:
            body["quotas"] = limits
        if at is not None:
            body["expires_at"] = at.isoformat()
        return str(call_server(settings, "POST", "/v1/keys", body)["key"])

    click.echo(_run(settings, offline, online))


def _quotas_of(options: tuple[str, ...]) -> dict[str, int]:
    """Return the quotas of the options; exit if one is not valid."""
    quotas = {}
    for option in options:
        kind, _, number = option.partition("=")
        if kind not in QUOTA_NAMES or not (number.isascii() and number.isdigit()):
            fail(
                f"invalid quota {option!r}; expected KIND=NUMBER, KIND is {', '.join(QUOTA_NAMES)}"
            )
        quotas[kind] = int(number)
    return quotas


@keys.command("list")
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """List the keys, newest first, without their secrets."""

    async def offline(authenticator: Authenticator) -> list[dict[str, Any]]:
        return [_summary(key) for key in await authenticator.list_keys(Page(500))]

    def online() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = call_server(settings, "GET", "/v1/keys?limit=500")["data"]
        return listed

    require_database(settings)
    listed = _run(settings, offline, online)
    if not listed:
        click.echo(f"no keys found in {settings.data_dir.absolute()}", err=True)
    for key in listed:
        expiry = f"until {key['expires_at']}" if key["expires_at"] else "no expiry"
        state = "revoked" if key["revoked_at"] else expiry
        scopes = ",".join(key["scopes"])
        click.echo(f"{key['id']}  {key['tenant']}  {scopes}  {state}  {key['name']}")


@keys.command()
@click.argument("key_id")
@click.pass_obj
def revoke(settings: Settings, key_id: str) -> None:
    """Revoke the key KEY_ID."""

    async def offline(authenticator: Authenticator) -> None:
        await authenticator.revoke(key_id)

    def online() -> None:
        call_server(settings, "DELETE", f"/v1/keys/{key_id}")

    require_database(settings)
    _run(settings, offline, online)
    click.echo(f"revoked {key_id}")


@keys.command()
def generate() -> None:
    """Print a new key for NEUROND_BOOTSTRAP_KEY, without storing it."""
    click.echo(new_secret())


def require_database(settings: Settings) -> None:
    """Exit if the data directory has no database, because the path is probably wrong."""
    if settings.database_url is None and not DataDirectory(settings.data_dir).database.exists():
        fail(f"no database found in {settings.data_dir.absolute()}")


def _run(
    settings: Settings,
    offline: Callable[[Authenticator], Awaitable[Result]],
    online: Callable[[], Result],
) -> Result:
    """Call ``offline`` if the data directory is not in use, otherwise ``online``."""

    async def run_offline() -> Result:
        async with open_authenticator(settings, directory) as authenticator:
            return await offline(authenticator)

    try:
        directory = prepare(settings)
    except DataDirectoryLockedError:
        return online()
    except (DataDirectoryError, DatabaseUnusableError) as error:
        fail(str(error))
    try:
        return asyncio.run(run_offline())
    except ServiceError as error:
        fail(error.detail)
    finally:
        directory.release()


def call_server(settings: Settings, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Send a request to the running server and return the body of its response."""
    address = (settings.data_dir / "address").read_text().strip()
    request = urllib.request.Request(  # noqa: S310 - the server's own address
        address + path, None if body is None else json.dumps(body).encode(), method=method
    )
    request.add_header("Content-Type", "application/json")
    if "NEUROND_API_KEY" in os.environ:
        request.add_header("Authorization", f"Bearer {os.environ['NEUROND_API_KEY']}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - as above
            decoded: dict[str, Any] = json.load(response)
            return decoded
    except urllib.error.HTTPError as error:
        detail = json.load(error).get("detail", error.reason)
        fail(f"the server at {address} returned an error: {detail}")
    except OSError as error:
        fail(f"the server at {address} cannot be reached: {error}")


def _summary(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "scopes": key.scopes,
        "name": key.name,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
