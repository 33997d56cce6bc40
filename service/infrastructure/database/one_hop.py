"""SQLite beside the event loop, handed over to its thread once for each statement.

aiosqlite hands over the making of a cursor, its execution, its rows and its end one by one. Each
costs a wake of two threads, and a short transaction is made of little else.
"""

import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Self, final

import aiosqlite


def creator(path: str) -> Callable[[], Coroutine[Any, Any, aiosqlite.Connection]]:
    """Return what opens connections to a database file, as SQLAlchemy's ``async_creator``."""

    async def connect() -> aiosqlite.Connection:
        connection = _Connection(partial(sqlite3.connect, path, check_same_thread=False), 1)
        connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does with its own
        return await connection

    return connect


class _Connection(aiosqlite.Connection):
    """A connection whose cursors need one hand-over."""

    def cursor(self) -> "_Cursor":  # type: ignore[override]
        """Return a new cursor; nothing is done for it yet."""
        return _Cursor(self)

    async def run(
        self, method: str, operation: str, parameters: Any
    ) -> tuple[list[Any], sqlite3.Cursor]:
        """Return the rows of a statement, and the closed cursor that had them."""
        return await self._execute(self._run, method, operation, parameters)  # type: ignore[no-any-return, no-untyped-call]

    def _run(
        self, method: str, operation: str, parameters: Any
    ) -> tuple[list[Any], sqlite3.Cursor]:
        cursor = self._conn.cursor()
        try:
            getattr(cursor, method)(operation, parameters)
            return (cursor.fetchall() if cursor.description else []), cursor
        finally:
            cursor.close()


@final
class _Cursor:
    """What SQLAlchemy's adapter asks of a driver's cursor."""

    arraysize = 1

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, operation: str, parameters: Sequence[Any] = ()) -> None:
        """Execute a statement, and keep its rows."""
        await self._keep("execute", operation, parameters)

    async def executemany(self, operation: str, parameters: Sequence[Any]) -> None:
        """Execute a statement for each of some parameters."""
        await self._keep("executemany", operation, parameters)

    async def fetchall(self) -> list[Any]:
        """Return the rows."""
        return self._rows

    async def close(self) -> None:
        """Forget the rows."""
        self._rows = []

    async def _keep(self, method: str, operation: str, parameters: Any) -> None:
        self._rows, cursor = await self._connection.run(method, operation, parameters)
        self.description = cursor.description
        self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
