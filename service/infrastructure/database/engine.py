"""The `Database` port over SQLAlchemy: connections, transactions, migrations."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, final

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.application.ports.repositories import (
    CheckpointRepository,
    DatasetRepository,
    IdempotencyRepository,
    JobEventRepository,
    JobRepository,
    KeyRepository,
    NetworkRepository,
    RetentionRepository,
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
from service.infrastructure.database.retention import SqlRetention

POOL_TIMEOUT: Final = 2.0
"""Seconds that a request waits for a connection before it fails as unavailable."""

HEAD: Final = "0003"
"""The newest revision; a test compares it with the migrations."""

MAX_CHECKED_BYTES: Final = 256 << 20
"""Maximum size of a database file that is checked at start, which takes about a second."""


@final
class SqlUnitOfWork:
    """One transaction over all repositories."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.networks: NetworkRepository = SqlNetworks(connection)
        self.versions: VersionRepository = SqlVersions(connection)
        self.datasets: DatasetRepository = SqlDatasets(connection)
        self.jobs: JobRepository = SqlJobs(connection)
        self.job_events: JobEventRepository = SqlJobEvents(connection)
        self.checkpoints: CheckpointRepository = SqlCheckpoints(connection)
        self.idempotency: IdempotencyRepository = SqlIdempotency(connection)
        self.keys: KeyRepository = SqlKeys(connection)
        self.retention: RetentionRepository = SqlRetention(connection)
        self.calls: list[Callable[[], None]] = []

    def after_commit(self, call: Callable[[], None]) -> None:
        """Schedule a call for when the transaction is durable."""
        self.calls.append(call)


@final
class SqlDatabase:
    """Implements `service.application.ports.database.Database` with SQLAlchemy.

    A process has one connection for writing, whose transactions acquire the global write lock when
    they begin, and a few for reading. With a single writer, SQLite transactions never fail with
    SQLITE_BUSY after they have begun, and PostgreSQL transactions never conflict.

    Parameters
    ----------
    name
        Application name of this server in PostgreSQL.
    """

    def __init__(self, url: str, name: str = "neurond") -> None:
        self._name = name
        self._writer = _engine(url, name, writes=True)
        self._reader = _engine(url, name, writes=False)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[SqlUnitOfWork]:
        """Open a read-only transaction with a consistent snapshot."""
        with _translate_errors():
            async with self._reader.begin() as connection:
                yield SqlUnitOfWork(connection)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[SqlUnitOfWork]:
        """Open a transaction that commits unless the block raises an exception."""
        with _translate_errors():
            async with self._writer.begin() as connection:
                work = SqlUnitOfWork(connection)
                yield work
        for call in work.calls:
            call()

    async def ping(self) -> None:
        """Raise UnavailableError unless the database accepts writes."""
        async with self.write():  # acquiring the write lock is enough
            pass

    async def notify(self, kind: str, reference: str) -> None:
        """Notify the other servers of an event that is not stored in the database."""
        if self._reader.dialect.name == postgres.DIALECT:
            with _translate_errors():
                async with self._reader.begin() as connection:
                    await connection.execute(postgres.notify_statement(kind, reference, self._name))

    async def referenced_blobs(self) -> set[str]:
        """Return the names of all blobs that a row refers to."""
        names: set[str] = set()
        with _translate_errors():
            async with self._reader.begin() as connection:
                for column in tables.BLOBS:
                    names.update(await connection.scalars(select(column).distinct()))
        return names

    async def close(self) -> None:
        """Close all connections."""
        await self._reader.dispose()
        await self._writer.dispose()


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate errors of the database to service errors; other exceptions propagate."""
    try:
        yield
    except PoolTimeout as error:
        raise UnavailableError("the database is busy") from error
    except OSError as error:  # the server is unreachable or too slow
        raise UnavailableError(f"the database does not respond: {error}") from error
    except DBAPIError as error:
        translated = _translation(error)
        if translated is None:
            raise
        raise translated from error


def _translation(error: DBAPIError) -> ServiceError | None:
    """Return the service error for a database error, or None if the server caused the error."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    sqlite = str(getattr(error.orig, "sqlite_errorname", ""))
    if state == postgres.DISK_FULL or sqlite == "SQLITE_FULL":
        return UnavailableError("the disk is full", code="storage_full")
    if state.startswith(postgres.DATA_EXCEPTION):
        return InvalidRequestError("the database cannot store a text or a number of the request")
    if isinstance(error, IntegrityError) or state.startswith(postgres.SQLSTATE_SYNTAX_OR_ACCESS):
        return None
    return UnavailableError(f"the database does not respond: {str(error.orig)[:200]}")


def _engine(url: str, name: str, *, writes: bool) -> AsyncEngine:
    """Return an engine for transactions that write, or for transactions that only read."""
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
    """Set pragmas and begin transactions; the driver would not begin one for every statement."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "busy_timeout=2000",
            "journal_mode=WAL",
            "synchronous=FULL",  # acknowledged writes survive a power failure
            "foreign_keys=ON",
            "journal_size_limit=16777216",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)


def sqlite_url(path: Path) -> str:
    """Return the URL of a database file."""
    return f"sqlite+aiosqlite:///{path}"


def migrate(path: Path) -> None:
    """Upgrade a database file to the newest revision.

    Raises
    ------
    DatabaseUnusableError
        If the file is damaged, cannot be written to, or was written by a newer version.
    """
    engine = create_engine(f"sqlite:///{path}")
    _configure(engine, begin="BEGIN IMMEDIATE")  # migrates in one transaction
    try:
        with engine.connect() as connection:
            _check_integrity(connection, path)
            if _revision(connection) != HEAD:
                # Imported only if needed, because importing Alembic takes a quarter of a second.
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
    """Return the revision of the tables, or None if the database is empty."""
    version_table = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
    if connection.exec_driver_sql(version_table).scalar() is None:
        return None
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if revision is None else str(revision)


def _check_integrity(connection: Connection, path: Path) -> None:
    """Raise DatabaseUnusableError if the file is damaged. Files over the limit are not checked."""
    if path.stat().st_size > MAX_CHECKED_BYTES:
        return
    verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if verdict != "ok":
        problem = f"{path} is damaged ({str(verdict)[:120]}); {REMEDY}"
        raise DatabaseUnusableError(problem)
