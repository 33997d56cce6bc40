"""The command line: ``neurond serve`` and the other commands."""

import asyncio
import contextlib
import ctypes
import gc
import importlib.util
import logging as standard_logging
import resource
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from pydantic import ValidationError
from pydantic_settings import SettingsError

from service import version
from service.bootstrap import build, open_authenticator, prepare
from service.cli.data import backup, check, restore
from service.cli.data import gc as gc_command
from service.cli.exits import fail
from service.cli.keys import keys
from service.domain.errors import ServiceError
from service.infrastructure.data_directory import DataDirectory, DataDirectoryError
from service.infrastructure.database.errors import DatabaseUnusableError
from service.infrastructure.observability import logging
from service.server.inference_protocol import InferenceHttpProtocol
from service.server.sockets import bind
from service.server.uvicorn_server import GracefulServer
from service.settings import Settings

log = standard_logging.getLogger(__name__)

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})

EXPORTER: Final = "opentelemetry.exporter"
"""The package that FastAPI exports traces with."""

M_MMAP_THRESHOLD: Final = -3
"""From glibc's `malloc.h`."""

OTHER_OPEN_FILES: Final = 256
"""Open files of the server that are not connections: database, blobs, uploads and workers."""

LARGE_BUFFER_BYTES: Final = 4 << 20
SWITCH_SECONDS: Final = 0.0005
"""The interpreter's switch interval: how long the event loop waits for a computing thread."""


@click.group()
@click.version_option(version.VERSION, prog_name="neurond")
def neurond() -> None:
    """Create, train, version and serve neural networks over HTTP."""


for command in (backup, check, gc_command, keys, restore):
    neurond.add_command(command)


@neurond.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 chooses a free one.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Directory for all data.")
@click.option("--workers", type=int, help="Number of jobs that train at the same time.")
def serve(**options: Any) -> None:
    """Start the server.

    The environment variables NEUROND_* hold all other settings.
    """
    settings = _read_settings({key: value for key, value in options.items() if value is not None})
    logging.configure(settings.log_level)
    listener = _bind(settings)
    try:
        directory = prepare(settings)
        anonymous = asyncio.run(_starts_without_keys(settings, directory))
    except (DataDirectoryError, DatabaseUnusableError, ServiceError) as error:
        fail(str(error))
    if anonymous and settings.host not in LOOPBACK_HOSTS and not settings.allow_anonymous:
        fail(
            f"no API key is configured and {settings.host} is reachable from other machines: "
            "create a key with `neurond keys create`, or set NEUROND_BOOTSTRAP_KEY_FILE, "
            "or NEUROND_ALLOW_ANONYMOUS=true"
        )
    app = build(settings, directory)
    protocol = partial(InferenceHttpProtocol, pipeline=app.state.pipeline)
    server = GracefulServer(app, settings, protocol, _allow_connections(settings.max_connections))
    directory.write_address(_url(listener))
    click.echo(f"neurond {version.VERSION} listening on {_url(listener)}", err=True)
    if anonymous:
        clients = "all clients" if settings.allow_anonymous else "local clients"
        click.echo(f"warning: no API key configured; {clients} have full access", err=True)
    # Full collections skip what was imported and built, which saves pauses of about 100 ms.
    # Garbage is collected first: frozen, it would stay as long as the server.
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)
    _return_large_buffers()
    server.run(sockets=[listener])
    if not server.started:
        fail("the server did not start; see the log")


def _allow_connections(requested: int) -> int:
    """Raise the soft limit of open files for connections; return how many are possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = requested + OTHER_OPEN_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    possible = requested
    if soft != resource.RLIM_INFINITY:
        possible = min(requested, soft - OTHER_OPEN_FILES)
    if possible < requested:
        log.warning(
            "NEUROND_MAX_CONNECTIONS is %d, but the limit of %d open files allows only %d",
            requested,
            soft,
            possible,
        )
    return max(possible, 1)


def _return_large_buffers() -> None:
    """Let the allocator return buffers of large bodies to the system at once.

    By default glibc raises its threshold for that to the size of what was freed last, and each
    thread then holds the memory of the largest body that it has decoded.
    """
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BUFFER_BYTES)


def _bind(settings: Settings) -> socket.socket:
    try:
        return bind(settings.host, settings.port)
    except OSError as error:
        reason = error.strerror or error
        fail(f"cannot listen on {settings.host}:{settings.port}: {reason}")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _read_settings(options: dict[str, Any]) -> Settings:
    """Return the settings, or end the process with one line that names the invalid one."""
    try:
        settings = Settings(**options)
    except ValidationError as error:
        first = error.errors()[0]
        setting = f"{first['loc'][0]}: " if first["loc"] else ""
        fail(setting + first["msg"].removeprefix("Value error, "))
    except SettingsError as error:  # a list or a mapping that is not JSON
        fail(error)
    if settings.telemetry and importlib.util.find_spec(EXPORTER) is None:
        fail("NEUROND_TELEMETRY needs an extra: pip install 'neurond[telemetry]'")
    return settings


async def _starts_without_keys(settings: Settings, directory: DataDirectory) -> bool:
    """Return True if no API key exists when the server starts."""
    if settings.bootstrap_key is not None or settings.bootstrap_key_file is not None:
        return False
    async with open_authenticator(settings, directory) as authenticator:
        return authenticator.anonymous
