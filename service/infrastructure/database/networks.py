"""Networks and versions in SQL."""

from typing import final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.application.ports.repositories import Page
from service.domain.errors import ConflictError
from service.domain.networks import NetworkRecord, Version
from service.infrastructure.database.rows import SqlTable, newest_first, values_of
from service.infrastructure.database.tables import networks, versions


def name_taken(kind: str, name: str) -> ConflictError:
    """Return the error for a name that is already in use."""
    return ConflictError(f"the name {name!r} is already used by another {kind}", code="name_taken")


@final
class SqlNetworks(SqlTable):
    """Implements `service.application.ports.repositories.NetworkRepository` in SQL."""

    async def add(self, network: NetworkRecord) -> None:
        """Store a new network. Raise ConflictError if its name is taken."""
        try:
            await self.connection.execute(insert(networks).values(values_of(network)))
        except IntegrityError as error:
            raise name_taken("network", network.name) from error

    async def find(self, tenant: str, reference: str) -> NetworkRecord | None:
        """Return the network with that id or, failing that, with that name."""
        query = select(networks).where(networks.c.tenant == tenant)
        for column in (networks.c.id, networks.c.name):
            row = await self.fetch_one(query.where(column == reference))
            if row is not None:
                return NetworkRecord(**row)
        return None

    async def page(
        self, tenant: str, pagination: Page, *, without_demo: bool
    ) -> list[NetworkRecord]:
        """Return a page of networks, newest first."""
        query = select(networks).where(networks.c.tenant == tenant)
        if without_demo:
            query = query.where(~networks.c.demo)
        rows = await self.fetch_all(newest_first(query, networks, pagination))
        return [NetworkRecord(**row) for row in rows]

    async def update(self, network: NetworkRecord, revision: int) -> bool:
        """Store the network if its stored revision is still ``revision``; return True if so."""
        unchanged = (networks.c.id == network.id) & (networks.c.revision == revision)
        try:
            result = await self.connection.execute(
                update(networks).where(unchanged).values(values_of(network))
            )
        except IntegrityError as error:
            raise name_taken("network", network.name) from error
        return result.rowcount == 1

    async def remove(self, network_id: str) -> None:
        """Delete a network and its versions."""
        await self.connection.execute(delete(networks).where(networks.c.id == network_id))


@final
class SqlVersions(SqlTable):
    """Implements `service.application.ports.repositories.VersionRepository` in SQL."""

    async def add(self, version: Version) -> None:
        """Store a new version."""
        await self.connection.execute(insert(versions).values(values_of(version)))

    async def get(self, network_id: str, number: int) -> Version | None:
        """Return the version with that number, or None."""
        query = select(versions).where(
            versions.c.network_id == network_id, versions.c.number == number
        )
        row = await self.fetch_one(query)
        return None if row is None else Version(**row)

    async def page(self, network_id: str, pagination: Page) -> list[Version]:
        """Return a page of versions, newest first."""
        query = select(versions).where(versions.c.network_id == network_id)
        if pagination.after is not None:
            query = query.where(versions.c.number < int(pagination.after))
        query = query.order_by(versions.c.number.desc()).limit(pagination.limit + 1)
        return [Version(**row) for row in await self.fetch_all(query)]

    async def remove(self, network_id: str, number: int) -> None:
        """Delete a version."""
        matches = (versions.c.network_id == network_id) & (versions.c.number == number)
        await self.connection.execute(delete(versions).where(matches))
