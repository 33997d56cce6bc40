"""The jobs' log in SQL."""

import asyncio
from collections.abc import Sequence
from typing import Any, final

import msgspec
from sqlalchemy import Text, cast, insert, select

from service.domain.jobs import EventBatch
from service.infrastructure.database.rows import SqlTable, values_of
from service.infrastructure.database.tables import job_events


@final
class SqlJobEvents(SqlTable):
    """See `service.application.ports.Log`."""

    async def append(self, batches: Sequence[EventBatch]) -> None:
        """Add records after the last one."""
        await self.connection.execute(insert(job_events), [values_of(batch) for batch in batches])

    async def after(self, job_id: str, event: int, limit: int) -> list[EventBatch]:
        """Return the records that hold events later than ``event``."""
        query = select(job_events).where(
            job_events.c.job_id == job_id, job_events.c.last_id > event
        )
        rows = await self.all(query.order_by(job_events.c.first_id).limit(limit))
        return [EventBatch(**row) for row in rows]

    async def epochs(self, job_id: str) -> list[EventBatch]:
        """Return all records of epochs, decoded by a thread: there may be megabytes of them."""
        text = cast(job_events.c.data, Text).label("data")
        query = select(
            job_events.c.job_id,
            job_events.c.first_id,
            job_events.c.last_id,
            job_events.c.type,
            text,
        )
        query = query.where(job_events.c.job_id == job_id, job_events.c.type == "epoch")
        rows = await self.all(query.order_by(job_events.c.first_id))
        return await asyncio.to_thread(lambda: [_decoded(row) for row in rows])


def _decoded(row: dict[str, Any]) -> EventBatch:
    return EventBatch(**{**row, "data": msgspec.json.decode(row["data"])})
