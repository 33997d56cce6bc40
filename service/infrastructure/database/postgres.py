"""PostgreSQL behind the Store port: connections, and the migrations run once.

Writers take one lock in common, as SQLite's do, so that what holds there holds here: a transaction
that writes sees no other half way, in this process or in another. The lock is the transaction's; it
ends with it, however that ends.
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
"""SQLSTATEs, and classes of them: values that no column holds, and statements that are wrong."""

WRITE_LOCK_ID: Final = 7_206_410
"""Number of the advisory lock that writers and migrations take."""

CHANNEL: Final = "neurond"
RECONNECT_SECONDS: Final = 0.5
PROBE_SECONDS: Final = 2.0

PATIENCE: Final = 2.0
"""Seconds for a connection, a statement or the lock; then a request is told to come back."""

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
"""Whoever changes a network or a job tells the others so, with its name, as it commits."""


def is_postgres(url: str) -> bool:
    """Tell whether the address of a database is PostgreSQL's."""
    return make_url(url).get_backend_name() == DIALECT


def engine(url: str, name: str, *, writes: bool, pool_timeout: float) -> AsyncEngine:
    """Return an engine whose transactions begin as they should."""
    made = _created(
        url,
        name,
        PATIENCE,
        isolation_level="READ COMMITTED" if writes else "REPEATABLE READ",
        pool_size=1 if writes else 4,
        max_overflow=0,
        pool_timeout=pool_timeout,
        pool_pre_ping=True,
    )
    if writes:

        @event.listens_for(made.sync_engine, "begin")
        def on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK_ID})")

    return made


def migrate(url: str) -> None:
    """Bring the tables to the newest form, once, whoever starts at the same time.

    Raises
    ------
    DatabaseUnusable
        When the database does not answer, or was written by a newer version.
    """
    try:
        asyncio.run(_migrated(url))
    except (DBAPIError, OSError, TimeoutError) as error:
        shown = make_url(url).render_as_string(hide_password=True)
        problem = f"{shown} cannot be used: {getattr(error, 'orig', None) or error}"
        raise DatabaseUnusableError(problem) from error


async def _migrated(url: str) -> None:
    made = _created(url, "neurond", MIGRATION_TIMEOUT_SECONDS)
    try:
        async with made.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK_ID})")
            await connection.run_sync(_upgrade, make_url(url).database or "the database")
    finally:
        await made.dispose()


def _upgrade(connection: Connection, name: str) -> None:
    # Loaded here: a start on SQLite mostly does without, and it takes a quarter of a second.
    from service.infrastructure.database import upgrade  # noqa: PLC0415

    upgrade.upgrade(connection, name)
    for statement in TRIGGERS:
        connection.exec_driver_sql(statement)


def notify_statement(kind: str, reference: str, name: str) -> Select[Any]:
    """Return the statement by which a server tells the others something itself."""
    return select(func.pg_notify(CHANNEL, f"{kind} {reference} {name}"))


async def listen(
    url: str, name: str, heard: Callable[[str, str], None], missed: Callable[[], None]
) -> None:
    """Hear what other servers change, for ever.

    Parameters
    ----------
    name
        This server's, whose own changes are no news.
    heard
        Is given "network", "job" or "checkpoint" (which a client of another server asks of a job),
        and an id.
    missed
        Is called when something may have been told and not heard.
    """
    import asyncpg  # noqa: PLC0415 - an extra

    failures = (OSError, TimeoutError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError)

    def on_notify(_: object, __: int, ___: str, told: str) -> None:
        kind, reference, sender = told.split(" ", 2)
        if sender != name:
            heard(kind, reference)

    made = _created(url, name, PATIENCE, poolclass=NullPool)
    while True:
        try:
            async with made.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                try:
                    await raw.add_listener(CHANNEL, on_notify)
                    log.info("listening to the other servers")
                    missed()
                    while True:  # a connection that is lost half way does not tell
                        await asyncio.sleep(PROBE_SECONDS)
                        await raw.fetchval("SELECT 1", timeout=PATIENCE)
                finally:
                    raw.terminate()  # a goodbye to who does not answer takes seconds
        except failures as error:
            log.warning("not listening to the other servers: %r", error)
        except Exception:  # the top frame: without it, nothing of the others would be seen
            log.exception("not listening to the other servers")
        await asyncio.sleep(RECONNECT_SECONDS)


def _created(url: str, name: str, patience: float, **options: Any) -> AsyncEngine:
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        connect_args={
            "timeout": PATIENCE,
            "command_timeout": patience,
            "server_settings": {
                "application_name": name,
                "lock_timeout": str(int(1000 * patience)),
                "idle_in_transaction_session_timeout": "60000",
            },
        },
        **options,
    )
