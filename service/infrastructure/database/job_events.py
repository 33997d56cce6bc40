"""The event log of jobs, in SQL."""

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
    """Implements `service.application.ports.repositories.JobEventRepository` in SQL."""

    async def append(self, batches: Sequence[EventBatch]) -> None:
        """Append batches of events."""
        await self.connection.execute(insert(job_events), [values_of(batch) for batch in batches])

    async def after(self, job_id: str, event: int, limit: int) -> list[EventBatch]:
        """Return at most ``limit`` batches that contain events after ``event``, oldest first."""
        query = select(job_events).where(
            job_events.c.job_id == job_id, job_events.c.last_id > event
        )
        rows = await self.fetch_all(query.order_by(job_events.c.first_id).limit(limit))
        return [EventBatch(**row) for row in rows]

    async def epochs(self, job_id: str, event: int, limit: int) -> list[EventBatch]:
        """Return at most ``limit`` batches of epochs after ``event``, oldest first."""
        text = cast(job_events.c.data, Text).label("data")
        query = select(
            job_events.c.job_id,
            job_events.c.first_id,
            job_events.c.last_id,
            job_events.c.type,
            text,
        )
        query = query.where(
            job_events.c.job_id == job_id,
            job_events.c.type == "epoch",
            job_events.c.last_id > event,
        )
        rows = await self.fetch_all(query.order_by(job_events.c.first_id).limit(limit))
        # In a thread, because they can amount to megabytes.
        return await asyncio.to_thread(lambda: [_decode_batch(row) for row in rows])


def _decode_batch(row: dict[str, Any]) -> EventBatch:
    return EventBatch(**{**row, "data": msgspec.json.decode(row["data"])})
