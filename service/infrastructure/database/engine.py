"""The database behind the Store port: connections, transactions, migrations."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, final

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.application.ports import (
    CheckpointRepository,
    DatasetRepository,
    IdempotencyRepository,
    JobEventRepository,
    JobRepository,
    KeyRepository,
    NetworkRepository,
    VersionRepository,
)
from service.domain.errors import InvalidRequestError, ServiceError, UnavailableError
from service.infrastructure.database import postgres, tables
from service.infrastructure.database.checkpoints import SqlCheckpoints
from service.infrastructure.database.datasets import SqlDatasets
from service.infrastructure.database.errors import REMEDY, DatabaseUnusableError
from service.infrastructure.database.idempotency import SqlIdempotency
from service.infrastructure.database.job_events import SqlJobEvents
from service.infrastructure.database.jobs import SqlJobs
from service.infrastructure.database.keys import SqlKeys
from service.infrastructure.database.networks import SqlNetworks, SqlVersions

POOL_TIMEOUT: Final = 2.0
"""Seconds that a request waits for a connection before it is told to come back."""


HEAD: Final = "0001"
"""The newest revision; a test holds it against the migrations."""

MAX_CHECKED_BYTES: Final = 256 << 20
"""Bytes of a database file that is checked at start; it takes about a second."""


@final
class SqlUnitOfWork:
    """One transaction over all stores."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.networks: NetworkRepository = SqlNetworks(connection)
        self.versions: VersionRepository = SqlVersions(connection)
        self.datasets: DatasetRepository = SqlDatasets(connection)
        self.jobs: JobRepository = SqlJobs(connection)
        self.job_events: JobEventRepository = SqlJobEvents(connection)
        self.checkpoints: CheckpointRepository = SqlCheckpoints(connection)
        self.idempotency: IdempotencyRepository = SqlIdempotency(connection)
        self.keys: KeyRepository = SqlKeys(connection)
        self.calls: list[Callable[[], None]] = []

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call when the transaction is durable."""
        self.calls.append(call)


@final
class SqlDatabase:
    """The Store over SQLAlchemy.

    A process gets one connection for writing, whose transactions take the lock of all writers at
    their beginning, and a few for reading. With a single writer, transactions of SQLite never meet
    SQLITE_BUSY half way, and those of PostgreSQL nothing that another is just changing.

    Parameters
    ----------
    name
        What PostgreSQL knows this server by.
    """

    def __init__(self, url: str, name: str = "neurond") -> None:
        self._name = name
        self._writer = _engine(url, name, writes=True)
        self._reader = _engine(url, name, writes=False)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[SqlUnitOfWork]:
        """Open a consistent view."""
        with _translated():
            async with self._reader.begin() as connection:
                yield SqlUnitOfWork(connection)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[SqlUnitOfWork]:
        """Open a transaction that commits when the block ends well."""
        with _translated():
            async with self._writer.begin() as connection:
                work = SqlUnitOfWork(connection)
                yield work
        for call in work.calls:
            call()

    async def ping(self) -> None:
        """Raise Unavailable unless the database can be written."""
        async with self.write():  # taking the write lock is enough
            pass

    async def notify(self, kind: str, reference: str) -> None:
        """Tell the other servers on the database something that it does not hold."""
        if self._reader.dialect.name == postgres.DIALECT:
            with _translated():
                async with self._reader.begin() as connection:
                    await connection.execute(postgres.notify_statement(kind, reference, self._name))

    async def referenced_blobs(self) -> set[str]:
        """Return the names of all blobs that a row refers to."""
        found: set[str] = set()
        with _translated():
            async with self._reader.begin() as connection:
                for column in tables.BLOBS:
                    found.update(await connection.scalars(select(column).distinct()))
        return found

    async def close(self) -> None:
        """Close all connections."""
        await self._reader.dispose()
        await self._writer.dispose()


class _translated:  # noqa: N801 - reads as a statement
    """Turns the database's errors into the service's; cancellation passes."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, PoolTimeout):
            raise UnavailableError("the database is busy") from error
        if isinstance(error, OSError):  # a server that is away, or too slow
            raise UnavailableError(f"the database does not answer: {error}") from error
        if isinstance(error, DBAPIError):
            refusal = _rejection(error)
            if refusal is not None:
                raise refusal from error


def _rejection(error: DBAPIError) -> ServiceError | None:
    """Return what a client is told of a database's error; None where the fault is our own."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    sqlite = str(getattr(error.orig, "sqlite_errorname", ""))
    if state == postgres.DISK_FULL or sqlite == "SQLITE_FULL":
        return UnavailableError("the disk is full", code="storage_full")
    if state.startswith(postgres.DATA_EXCEPTION):
        return InvalidRequestError("a text or a number is none that the database can hold")
    if isinstance(error, IntegrityError) or state.startswith(postgres.SQLSTATE_SYNTAX_OR_ACCESS):
        return None
    return UnavailableError(f"the database does not answer: {str(error.orig)[:200]}")


def _engine(url: str, name: str, *, writes: bool) -> AsyncEngine:
    """Return an engine whose transactions begin as they should."""
    if postgres.is_postgres(url):
        return postgres.engine(url, name, writes=writes, pool_timeout=POOL_TIMEOUT)
    size = 1 if writes else 4
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT,
    )
    _configure(engine.sync_engine, begin="BEGIN IMMEDIATE" if writes else "BEGIN")
    return engine


def _configure(engine: Engine, *, begin: str) -> None:
    """Let transactions be begun here, and not by the driver, which leaves some statements out."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "busy_timeout=2000",
            "journal_mode=WAL",
            "synchronous=FULL",  # what was acknowledged survives a power cut
            "foreign_keys=ON",
            "journal_size_limit=16777216",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)


def sqlite_url(path: Path) -> str:
    """Return the address of a database file."""
    return f"sqlite+aiosqlite:///{path}"


def migrate(path: Path) -> None:
    """Bring a database file to the newest form.

    Raises
    ------
    DatabaseUnusable
        When the file is damaged, cannot be written, or comes from a newer version.
    """
    engine = create_engine(f"sqlite:///{path}")
    _configure(engine, begin="BEGIN IMMEDIATE")  # all tables and their version, or none
    try:
        with engine.connect() as connection:
            _check_pages(connection, path)
            if _revision(connection) != HEAD:
                # Loaded only where it is needed: it takes a quarter of a second.
                from service.infrastructure.database import upgrade  # noqa: PLC0415

                upgrade.upgrade(connection, path)
                connection.commit()
    except SQLAlchemyError as error:
        original = getattr(error, "orig", error)
        problem = f"{path} cannot be used: {original}; {REMEDY}"
        raise DatabaseUnusableError(problem) from error
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    """Return the revision of the tables; None where there are none."""
    tables_there = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
    if connection.exec_driver_sql(tables_there).scalar() is None:
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def _check_pages(connection: Connection, path: Path) -> None:
    """Refuse a damaged file; a very large one is looked at only when it is asked for."""
    if path.stat().st_size > MAX_CHECKED_BYTES:
        return
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        problem = f"{path} is damaged ({str(found)[:120]}); {REMEDY}"
        raise DatabaseUnusableError(problem)
