"""Stored responses to requests with an Idempotency-Key, in SQL."""

from datetime import timedelta
from typing import Final, final

from sqlalchemy import delete, insert, select, update

from service.application.ports.repositories import StoredResponse
from service.infrastructure.database.clock import now
from service.infrastructure.database.rows import SqlTable, values_of
from service.infrastructure.database.tables import idempotency

RETENTION: Final = timedelta(days=1)
"""Time after which a stored response is no longer returned."""


@final
class SqlIdempotency(SqlTable):
    """Implements `service.application.ports.repositories.IdempotencyRepository` in SQL."""

    async def get(self, tenant: str, key: str) -> StoredResponse | None:
        """Return the response stored under a key during the retention period, or None."""
        query = select(
            idempotency.c.fingerprint,
            idempotency.c.status,
            idempotency.c.headers,
            idempotency.c.body,
        ).where(
            idempotency.c.tenant == tenant,
            idempotency.c.key == key,
            idempotency.c.created_at > now(self.connection) - RETENTION,
        )
        row = await self.fetch_one(query)
        return None if row is None else StoredResponse(**row)

    async def replace(self, tenant: str, key: str, response: StoredResponse) -> None:
        """Replace the response stored under a key."""
        matches = (idempotency.c.tenant == tenant) & (idempotency.c.key == key)
        await self.connection.execute(
            update(idempotency).where(matches).values(values_of(response))
        )

    async def add(self, tenant: str, key: str, response: StoredResponse) -> None:
        """Store a response, and delete the responses past the retention period."""
        time = now(self.connection)
        await self.connection.execute(
            delete(idempotency).where(idempotency.c.created_at < time - RETENTION)
        )
        row = {**values_of(response), "tenant": tenant, "key": key, "created_at": time}
        await self.connection.execute(insert(idempotency).values(row))
