"""The command line: ``neurond serve`` and the commands beside it."""

import asyncio
import contextlib
import gc
import importlib.util
import math
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, final

import click
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import SettingsError

from service import version
from service.bootstrap import access_of, build, prepare
from service.data_commands import backup, check, restore
from service.domain.errors import ServiceError
from service.guarded_protocol import GuardedProtocol
from service.hot_protocol import HotProtocol
from service.infrastructure.data_folder import DataFolder, FolderUnusable
from service.infrastructure.database.damage import DatabaseUnusable
from service.infrastructure.observability import logging
from service.key_commands import keys
from service.listening import listen, turn_away
from service.refusal import refuse
from service.settings import Settings

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

EXPORTER = "opentelemetry.exporter"
"""What FastAPI sends traces with."""

SWITCH_SECONDS: Final = 0.0005
"""How long the loop waits for a thread that computes."""

LAST_REQUEST_SECONDS: Final = 0.2
"""How long a connection that is open at the end, or being made, has to send its last request."""

FIRST_REQUEST_SECONDS: Final = 2.0
"""How long it has where it has sent none yet: it was made to send one."""


@click.group()
@click.version_option(version.VERSION, prog_name="neurond")
def neurond() -> None:
    """Create, train, version and serve neural networks over HTTP."""


for command in (backup, check, keys, restore):
    neurond.add_command(command)


@neurond.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder that holds everything.")
@click.option("--workers", type=int, help="Trainings that run at the same time.")
def serve(**options: Any) -> None:
    """Start the server; NEUROND_* variables set what no option does."""
    settings = _settings({key: value for key, value in options.items() if value is not None})
    logging.configure(settings.log_level)
    listener = listen(settings.host, settings.port)
    try:
        folder = prepare(settings)
        anonymous = asyncio.run(_without_keys(settings, folder))
    except (FolderUnusable, DatabaseUnusable, ServiceError) as error:
        refuse(str(error))
    if anonymous and settings.host not in LOOPBACK_HOSTS and not settings.allow_anonymous:
        refuse(
            f"{settings.host} is open to others and there is no key: make one with "
            "`neurond keys create`, or set NEUROND_FIRST_KEY_FILE, or NEUROND_ALLOW_ANONYMOUS=true"
        )
    app = build(settings, folder)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        date_header=True,
        lifespan="on",
        http=_protocol(app, settings),
        ws="none",
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_seconds),
    )
    server = Server(config, app, settings.drain_seconds)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    folder.tell(url)
    click.echo(f"neurond {version.VERSION} at {url}", err=True)
    if anonymous:
        whom = "everyone" if settings.allow_anonymous else "this machine alone"
        click.echo(f"there is no key: {whom} is answered, and may do everything", err=True)
    # What was imported and built lives as long as the server. Were it looked through again in each
    # full collection, the loop would stand still for a tenth of a second. What is garbage by now
    # would stay for as long, and goes first.
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)
    server.run(sockets=[listener])
    if not server.started:
        refuse("the server did not start; the log says why")


def _settings(options: dict[str, Any]) -> Settings:
    """Return the settings, or end with a line that says what is wrong with them."""
    try:
        settings = Settings(**options)
    except ValidationError as error:
        first = error.errors()[0]
        refuse(f"{first['loc'][0]}: {first['msg']}")
    except SettingsError as error:  # a list or a mapping that is no JSON
        refuse(error)
    if settings.telemetry and importlib.util.find_spec(EXPORTER) is None:
        refuse("NEUROND_TELEMETRY takes more packages: pip install 'neurond[telemetry]'")
    return settings


def _protocol(app: FastAPI, settings: Settings) -> Any:
    """Return what makes a connection."""
    if settings.access_log or settings.telemetry:
        return GuardedProtocol  # what is to be told of every request is told on the ordinary road
    return partial(HotProtocol, hot=app.state.hot)


async def _without_keys(settings: Settings, folder: DataFolder) -> bool:
    """Tell whether the server will run without any key."""
    if settings.first_key is not None or settings.first_key_file is not None:
        return False
    async with access_of(settings, folder) as access:
        return access.anonymous


@final
class Server(uvicorn.Server):
    """uvicorn with a shutdown that loses no request.

    On the first SIGTERM or SIGINT readiness turns to 503 while requests are still taken, so that
    a balancer can look elsewhere; then it stops accepting, and ends when requests have.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._app, self._drain_seconds = app, drain_seconds

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on a signal, and exit with status 0 afterwards."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._drain)
        try:
            yield
        finally:
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(name)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take the connections that were being made, then close as uvicorn does."""
        with contextlib.suppress(OSError):
            for listener in sockets or []:
                turn_away(listener)
        open_ones = cast("set[GuardedProtocol]", self.server_state.connections)
        for _ in range(round(FIRST_REQUEST_SECONDS / LAST_REQUEST_SECONDS)):
            await asyncio.sleep(LAST_REQUEST_SECONDS)
            if all(connection.has_asked() for connection in open_ones):
                break
        await super().shutdown(sockets)

    def _drain(self) -> None:
        services = getattr(self._app.state, "services", None)
        if services is not None:
            services.closing.set()
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True
