"""Checkpoints in SQL; their bytes are blobs."""

from typing import final

from sqlalchemy import delete, insert, select, update

from service.domain.jobs import Checkpoint
from service.infrastructure.database.rows import SqlTable, values_of
from service.infrastructure.database.tables import checkpoints


@final
class SqlCheckpoints(SqlTable):
    """See `service.application.ports.CheckpointService`."""

    async def add(self, checkpoint: Checkpoint) -> None:
        """Remember a checkpoint."""
        await self.connection.execute(insert(checkpoints).values(values_of(checkpoint)))

    async def of(self, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, latest first."""
        query = select(checkpoints).where(checkpoints.c.job_id == job_id)
        ordered = query.order_by(checkpoints.c.epoch.desc(), checkpoints.c.id.desc())
        return [Checkpoint(**row) for row in await self.all(ordered)]

    async def get(self, job_id: str, checkpoint_id: str) -> Checkpoint | None:
        """Return one checkpoint."""
        query = select(checkpoints).where(
            checkpoints.c.job_id == job_id, checkpoints.c.id == checkpoint_id
        )
        row = await self.one(query)
        return None if row is None else Checkpoint(**row)

    async def keep(self, checkpoint_id: str) -> None:
        """Note that a client asked for a checkpoint."""
        mine = checkpoints.c.id == checkpoint_id
        await self.connection.execute(update(checkpoints).where(mine).values(requested=True))

    async def prune(self, job_id: str, keep: int, requested: int) -> None:
        """Forget all but the latest ``keep``, and the latest ``requested`` that were asked for."""
        found = await self.of(job_id)
        kept = {checkpoint.id for checkpoint in found[:keep]}
        kept |= {
            checkpoint.id for checkpoint in [one for one in found if one.requested][:requested]
        }
        for checkpoint in (one for one in found if one.id not in kept):
            await self.connection.execute(
                delete(checkpoints).where(checkpoints.c.id == checkpoint.id)
            )
