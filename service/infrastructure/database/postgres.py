"""PostgreSQL behind the Store port: connections, and the migrations run once.

Writers take one lock in common, as SQLite's do, so that what holds there holds here: a transaction
that writes sees no other half way, in this process or in another. The lock is the transaction's; it
ends with it, however that ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import Connection, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.infrastructure.database.damage import DatabaseUnusable

DIALECT: Final = "postgresql"
WRITERS: Final = 7_206_410
"""Number of the advisory lock that writers and migrations take."""

SERVER: Final = 7_206_411
"""Number of the advisory lock that a running server holds."""

PATIENCE: Final = 2.0
"""Seconds for a connection, a statement or the lock; then a request is told to come back."""

MIGRATION_PATIENCE: Final = 60.0


def is_postgres(url: str) -> bool:
    """Tell whether the address of a database is PostgreSQL's."""
    return make_url(url).get_backend_name() == DIALECT


def engine(url: str, *, writes: bool, pool_timeout: float) -> AsyncEngine:
    """Return an engine whose transactions begin as they should."""
    made = _created(
        url,
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
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")

    return made


def migrate(url: str) -> None:
    """Bring the tables to the newest form, once, whoever starts at the same time.

    Raises
    ------
    DatabaseUnusable
        When the database does not answer, was written by a newer version, or another server
        holds it.
    """
    try:
        asyncio.run(_migrated(url))
    except (DBAPIError, OSError, TimeoutError) as error:
        shown = make_url(url).render_as_string(hide_password=True)
        problem = f"{shown} cannot be used: {getattr(error, 'orig', None) or error}"
        raise DatabaseUnusable(problem) from error


@asynccontextmanager
async def held(url: str) -> AsyncIterator[None]:
    """Hold the database for this server, for as long as its connection lives.

    Raises
    ------
    DatabaseUnusable
        When another server holds it: it would take over that one's jobs.
    """
    made = _created(url, PATIENCE)
    try:
        async with made.connect() as connection:
            mine = await connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({SERVER})")
            if not mine.scalar_one():
                name = make_url(url).database
                problem = f"the database {name} is held by another server"
                raise DatabaseUnusable(problem)
            await connection.commit()
            yield
    finally:
        await made.dispose()


async def _migrated(url: str) -> None:
    made = _created(url, MIGRATION_PATIENCE)
    try:
        async with made.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
            await connection.run_sync(_upgrade, make_url(url).database or "the database")
        async with held(url):  # told before anything is started
            pass
    finally:
        await made.dispose()


def _upgrade(connection: Connection, name: str) -> None:
    # Loaded only where it is needed: it takes a quarter of a second.
    from service.infrastructure.database import upgrade  # noqa: PLC0415

    upgrade.upgrade(connection, name)


def _created(url: str, patience: float, **options: Any) -> AsyncEngine:
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        connect_args={
            "timeout": PATIENCE,
            "command_timeout": patience,
            "server_settings": {
                "application_name": "neurond",
                "lock_timeout": str(int(1000 * patience)),
                "idle_in_transaction_session_timeout": "60000",
            },
        },
        **options,
    )
