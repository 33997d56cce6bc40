"""First answers to requests with an Idempotency-Key, in SQL."""

from datetime import UTC, datetime, timedelta
from typing import Final, final

from sqlalchemy import delete, insert, select, update

from service.application.ports import SavedAnswer
from service.infrastructure.database.rows import SqlTable, values_of
from service.infrastructure.database.tables import answers

KEPT: Final = timedelta(days=1)


@final
class SqlAnswers(SqlTable):
    """See `service.application.ports.Answers`."""

    async def get(self, owner: str, key: str) -> SavedAnswer | None:
        """Return the answer that was given within the last day."""
        query = select(
            answers.c.fingerprint, answers.c.status, answers.c.headers, answers.c.body
        ).where(
            answers.c.owner == owner,
            answers.c.key == key,
            answers.c.created_at > datetime.now(UTC) - KEPT,
        )
        row = await self.one(query)
        return None if row is None else SavedAnswer(**row)

    async def replace(self, owner: str, key: str, answer: SavedAnswer) -> None:
        """Remember another answer in the place of the first."""
        mine = (answers.c.owner == owner) & (answers.c.key == key)
        await self.connection.execute(update(answers).where(mine).values(values_of(answer)))

    async def add(self, owner: str, key: str, answer: SavedAnswer) -> None:
        """Remember an answer, and forget those that are too old."""
        now = datetime.now(UTC)
        await self.connection.execute(delete(answers).where(answers.c.created_at < now - KEPT))
        row = {**values_of(answer), "owner": owner, "key": key, "created_at": now}
        await self.connection.execute(insert(answers).values(row))
