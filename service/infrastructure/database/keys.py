"""API keys in SQL."""

from datetime import datetime
from typing import final

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.application.ports.repositories import Page
from service.domain.keys import Key
from service.infrastructure.database.networks import name_taken
from service.infrastructure.database.rows import SqlTable, newest_first, values_of
from service.infrastructure.database.tables import datasets, jobs, keys, networks


@final
class SqlKeys(SqlTable):
    """Implements `service.application.ports.repositories.KeyRepository` in SQL."""

    async def add(self, key: Key) -> None:
        """Store a new key. Raise ConflictError if its prefix is taken."""
        try:
            await self.connection.execute(insert(keys).values(values_of(key)))
        except IntegrityError as error:
            raise name_taken("key", key.prefix) from error

    async def get(self, key_id: str) -> Key | None:
        """Return the key with that id, or None."""
        row = await self.fetch_one(select(keys).where(keys.c.id == key_id))
        return None if row is None else Key(**row)

    async def every(self) -> list[Key]:
        """Return all keys, including revoked ones."""
        return [Key(**row) for row in await self.fetch_all(select(keys))]

    async def page(self, pagination: Page) -> list[Key]:
        """Return a page of keys, newest first."""
        query = newest_first(select(keys), keys, pagination)
        return [Key(**row) for row in await self.fetch_all(query)]

    async def revoke(self, key_id: str, at: datetime) -> None:
        """Store the time at which a key was revoked."""
        await self.connection.execute(update(keys).where(keys.c.id == key_id).values(revoked_at=at))

    async def state(self) -> tuple[int, str]:
        """Return the number of keys, and a token that changes when a key is created or revoked."""
        query = select(func.count(keys.c.id), func.count(keys.c.revoked_at), func.max(keys.c.id))
        count, revoked, newest = (await self.connection.execute(query)).one()
        return int(count), f"{revoked} {newest}"

    async def tenant_of(self, reference: str) -> str | None:
        """Return the tenant of the network, dataset or job with that id, or None."""
        table = {"net": networks, "ds": datasets, "job": jobs}.get(reference.partition("_")[0])
        if table is None:
            return None
        tenant: str | None = await self.connection.scalar(
            select(table.c.tenant).where(table.c.id == reference)
        )
        return tenant
