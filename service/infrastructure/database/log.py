"""The jobs' log in SQL."""

from collections.abc import Sequence
from typing import final

from sqlalchemy import insert, select

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
        """Return all records of epochs."""
        query = select(log).where(log.c.job_id == job_id, log.c.type == "epoch")
        return [Record(**row) for row in await self.all(query.order_by(log.c.first))]
