"""Checkpoints in SQL; their states are blobs."""

from typing import final

from sqlalchemy import delete, insert, select, update

from service.domain.jobs import Checkpoint
from service.infrastructure.database.rows import SqlTable, values_of
from service.infrastructure.database.tables import checkpoints


@final
class SqlCheckpoints(SqlTable):
    """Implements `service.application.ports.repositories.CheckpointRepository` in SQL."""

    async def add(self, checkpoint: Checkpoint) -> None:
        """Store a new checkpoint."""
        await self.connection.execute(insert(checkpoints).values(values_of(checkpoint)))

    async def of(self, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, latest first."""
        query = select(checkpoints).where(checkpoints.c.job_id == job_id)
        ordered = query.order_by(checkpoints.c.epoch.desc(), checkpoints.c.id.desc())
        return [Checkpoint(**row) for row in await self.fetch_all(ordered)]

    async def get(self, job_id: str, checkpoint_id: str) -> Checkpoint | None:
        """Return a checkpoint of the job, or None."""
        query = select(checkpoints).where(
            checkpoints.c.job_id == job_id, checkpoints.c.id == checkpoint_id
        )
        row = await self.fetch_one(query)
        return None if row is None else Checkpoint(**row)

    async def keep(self, checkpoint_id: str) -> None:
        """Mark a checkpoint as requested by a client."""
        matches = checkpoints.c.id == checkpoint_id
        await self.connection.execute(update(checkpoints).where(matches).values(requested=True))

    async def prune(self, job_id: str, keep: int, requested: int) -> None:
        """Delete all but the latest ``keep`` and the latest ``requested`` requested ones."""
        stored = await self.of(job_id)
        by_clients = [checkpoint for checkpoint in stored if checkpoint.requested]
        retained = {checkpoint.id for checkpoint in stored[:keep] + by_clients[:requested]}
        for checkpoint in (checkpoint for checkpoint in stored if checkpoint.id not in retained):
            await self.connection.execute(
                delete(checkpoints).where(checkpoints.c.id == checkpoint.id)
            )
