"""The jobs' log in SQL."""

import asyncio
from collections.abc import Sequence
from typing import Any, final

import msgspec
from sqlalchemy import Text, cast, insert, select

from service.domain.jobs import Record
from service.infrastructure.database.rows import SqlTable, values_of
from service.infrastructure.database.tables import log


@final
class SqlLog(SqlTable):
    """See `service.application.ports.Log`."""

    async def append(self, records: Sequence[Record]) -> None:
        """Add records after the last one."""
        await self.connection.execute(insert(log), [values_of(record) for record in records])

    async def after(self, job_id: str, event: int, limit: int) -> list[Record]:
        """Return the records that hold events later than ``event``."""
        query = select(log).where(log.c.job_id == job_id, log.c.last > event)
        rows = await self.all(query.order_by(log.c.first).limit(limit))
        return [Record(**row) for row in rows]

    async def epochs(self, job_id: str) -> list[Record]:
        """Return all records of epochs, decoded by a thread: there may be megabytes of them."""
        text = cast(log.c.data, Text).label("data")
        query = select(log.c.job_id, log.c.first, log.c.last, log.c.type, text)
        query = query.where(log.c.job_id == job_id, log.c.type == "epoch")
        rows = await self.all(query.order_by(log.c.first))
        return await asyncio.to_thread(lambda: [_decoded(row) for row in rows])


def _decoded(row: dict[str, Any]) -> Record:
    return Record(**{**row, "data": msgspec.json.decode(row["data"])})
