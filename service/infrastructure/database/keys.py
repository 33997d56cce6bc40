"""Keys in SQL."""

from datetime import datetime
from typing import final

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.application.ports import Page
from service.domain.keys import Key
from service.infrastructure.database.networks import name_taken
from service.infrastructure.database.rows import SqlTable, newest_first, values_of
from service.infrastructure.database.tables import datasets, jobs, keys, networks


@final
class SqlKeys(SqlTable):
    """See `service.application.ports.Keys`."""

    async def add(self, key: Key) -> None:
        """Remember a new key."""
        try:
            await self.connection.execute(insert(keys).values(values_of(key)))
        except IntegrityError as error:
            raise name_taken("key", key.prefix) from error

    async def get(self, key_id: str) -> Key | None:
        """Return one key."""
        row = await self.one(select(keys).where(keys.c.id == key_id))
        return None if row is None else Key(**row)

    async def every(self) -> list[Key]:
        """Return every key."""
        return [Key(**row) for row in await self.all(select(keys))]

    async def page(self, page: Page) -> list[Key]:
        """Return a page, newest first."""
        return [Key(**row) for row in await self.all(newest_first(select(keys), keys, page))]

    async def revoke(self, key_id: str, at: datetime) -> None:
        """Note since when a key opens nothing."""
        await self.connection.execute(update(keys).where(keys.c.id == key_id).values(revoked_at=at))

    async def state(self) -> tuple[int, str]:
        """Return what changes whenever a key is made or revoked."""
        query = select(func.count(keys.c.id), func.count(keys.c.revoked_at), func.max(keys.c.id))
        made, revoked, newest = (await self.connection.execute(query)).one()
        return int(made), f"{revoked} {newest}"

    async def tenant_of(self, reference: str) -> str | None:
        """Return whose network, dataset or job has this id."""
        table = {"net": networks, "ds": datasets, "job": jobs}.get(reference.partition("_")[0])
        if table is None:
            return None
        tenant: str | None = await self.connection.scalar(
            select(table.c.tenant).where(table.c.id == reference)
        )
        return tenant
