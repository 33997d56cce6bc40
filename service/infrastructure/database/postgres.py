"""PostgreSQL: connections, migrations and notifications between servers.

All writers acquire the same advisory lock, so that writes are serialised across processes as they
are with SQLite. The lock is held by the transaction and is released whenever the transaction ends.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, Select, event, func, make_url, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from service.infrastructure.database.errors import DatabaseUnusableError

DIALECT: Final = "postgresql"
DISK_FULL: Final = "53100"
DATA_EXCEPTION: Final = "22"
SQLSTATE_SYNTAX_OR_ACCESS: Final = "42"
"""SQLSTATEs: one code, and the classes of invalid values and of invalid statements."""

WRITE_LOCK_ID: Final = 7_206_410
"""Key of the advisory lock that writers and migrations acquire."""

CHANNEL: Final = "neurond"
RECONNECT_SECONDS: Final = 0.5
PROBE_SECONDS: Final = 2.0

TIMEOUT_SECONDS: Final = 2.0
"""Timeout of a connection, a statement and the lock; then the request fails as unavailable."""

MIGRATION_TIMEOUT_SECONDS: Final = 60.0

log = logging.getLogger(__name__)

TRIGGERS: Final = (
    f"""
    CREATE OR REPLACE FUNCTION neurond_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('{CHANNEL}', TG_ARGV[0] || ' ' ||
            CASE TG_ARGV[0] WHEN 'job' THEN to_jsonb(NEW) ->> 'job_id'
                            ELSE COALESCE(to_jsonb(NEW), to_jsonb(OLD)) ->> 'id' END || ' ' ||
            current_setting('application_name'));
        RETURN NULL;
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER neurond_network AFTER INSERT OR UPDATE OR DELETE ON networks
    FOR EACH ROW EXECUTE FUNCTION neurond_notify('network')
    """,
    """
    CREATE OR REPLACE TRIGGER neurond_job AFTER INSERT ON job_events
    FOR EACH ROW EXECUTE FUNCTION neurond_notify('job')
    """,
)
"""Notify all servers when a change of a network or a job commits, with the sender's name."""


def is_postgres(url: str) -> bool:
    """Return True if a database URL refers to PostgreSQL."""
    return make_url(url).get_backend_name() == DIALECT


def engine(url: str, name: str, *, writes: bool, pool_timeout: float) -> AsyncEngine:
    """Return an engine for transactions that write, or for transactions that only read."""
    async_engine = _create_engine(
        url,
        name,
        TIMEOUT_SECONDS,
        isolation_level="READ COMMITTED" if writes else "REPEATABLE READ",
        pool_size=1 if writes else 4,
        max_overflow=0,
        pool_timeout=pool_timeout,
        pool_pre_ping=True,
    )
    if writes:

        @event.listens_for(async_engine.sync_engine, "begin")
        def on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK_ID})")

    return async_engine


def migrate(url: str) -> None:
    """Upgrade the tables to the newest revision. Concurrent calls wait for each other.

    Raises
    ------
    DatabaseUnusableError
        If the database does not respond, or was written by a newer version.
    """
    try:
        asyncio.run(_migrate(url))
    except (DBAPIError, OSError, TimeoutError) as error:
        redacted = make_url(url).render_as_string(hide_password=True)
        problem = f"{redacted} cannot be used: {getattr(error, 'orig', None) or error}"
        raise DatabaseUnusableError(problem) from error


async def _migrate(url: str) -> None:
    async_engine = _create_engine(url, "neurond", MIGRATION_TIMEOUT_SECONDS)
    try:
        async with async_engine.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK_ID})")
            await connection.run_sync(_upgrade, make_url(url).database or "the database")
    finally:
        await async_engine.dispose()


def _upgrade(connection: Connection, name: str) -> None:
    # Imported here, because it takes a quarter of a second and a start on SQLite rarely needs it.
    from service.infrastructure.database import upgrade  # noqa: PLC0415

    upgrade.upgrade(connection, name)
    for statement in TRIGGERS:
        connection.exec_driver_sql(statement)


def notify_statement(kind: str, reference: str, name: str) -> Select[Any]:
    """Return the statement that notifies the other servers, apart from the triggers."""
    return select(func.pg_notify(CHANNEL, f"{kind} {reference} {name}"))


async def listen(
    url: str,
    name: str,
    on_notification: Callable[[str, str], None],
    on_missed: Callable[[], None],
) -> None:
    """Listen to the notifications of other servers until cancelled.

    Parameters
    ----------
    name
        Name of this server, whose own notifications are ignored.
    on_notification
        Called with a kind and an id. The kind is "network", "job", or "checkpoint" if a client of
        another server requests a checkpoint of a job.
    on_missed
        Called when notifications may have been missed.
    """
    import asyncpg  # noqa: PLC0415 - an extra

    failures = (OSError, TimeoutError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError)

    def on_notify(_: object, __: int, ___: str, payload: str) -> None:
        kind, reference, sender = payload.split(" ", 2)
        if sender != name:
            on_notification(kind, reference)

    async_engine = _create_engine(url, name, TIMEOUT_SECONDS, poolclass=NullPool)
    while True:
        try:
            async with async_engine.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                try:
                    await raw.add_listener(CHANNEL, on_notify)
                    log.info("listening to notifications of other servers")
                    on_missed()
                    while True:  # a lost connection is only noticed when it is used
                        await asyncio.sleep(PROBE_SECONDS)
                        await raw.fetchval("SELECT 1", timeout=TIMEOUT_SECONDS)
                finally:
                    raw.terminate()  # closing an unresponsive connection takes seconds
        except failures as error:
            log.warning("lost the connection for notifications, reconnecting: %r", error)
        except Exception:  # top frame: if the task ended, all later notifications would be missed
            log.exception("unexpected error while listening to notifications, reconnecting")
        await asyncio.sleep(RECONNECT_SECONDS)


def _create_engine(url: str, name: str, timeout: float, **options: Any) -> AsyncEngine:
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        connect_args={
            "timeout": TIMEOUT_SECONDS,
            "command_timeout": timeout,
            "server_settings": {
                "application_name": name,
                "lock_timeout": str(int(1000 * timeout)),
                "idle_in_transaction_session_timeout": "60000",
            },
        },
        **options,
    )
