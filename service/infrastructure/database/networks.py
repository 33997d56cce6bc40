"""Networks and versions in SQL."""

from typing import final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.application.ports import Page
from service.domain.errors import ConflictError
from service.domain.networks import NetworkRecord, Version
from service.infrastructure.database.rows import SqlTable, newest_first, values_of
from service.infrastructure.database.tables import networks, versions


def name_taken(kind: str, name: str) -> ConflictError:
    """Return the refusal of a name that another one has."""
    return ConflictError(f"another {kind} is called {name!r}", code="name_taken")


@final
class SqlNetworks(SqlTable):
    """See `service.application.ports.NetworkService`."""

    async def add(self, network: NetworkRecord) -> None:
        """Remember a new network."""
        try:
            await self.connection.execute(insert(networks).values(values_of(network)))
        except IntegrityError as error:
            raise name_taken("network", network.name) from error

    async def find(self, tenant: str, reference: str) -> NetworkRecord | None:
        """Return the network of that id, or of that name."""
        query = select(networks).where(networks.c.tenant == tenant)
        for column in (networks.c.id, networks.c.name):
            row = await self.one(query.where(column == reference))
            if row is not None:
                return NetworkRecord(**row)
        return None

    async def page(self, tenant: str, page: Page) -> list[NetworkRecord]:
        """Return a page, newest first."""
        query = select(networks).where(networks.c.tenant == tenant)
        return [NetworkRecord(**row) for row in await self.all(newest_first(query, networks, page))]

    async def update(self, network: NetworkRecord, revision: int) -> bool:
        """Store where nobody else did since."""
        unchanged = (networks.c.id == network.id) & (networks.c.revision == revision)
        try:
            result = await self.connection.execute(
                update(networks).where(unchanged).values(values_of(network))
            )
        except IntegrityError as error:
            raise name_taken("network", network.name) from error
        return result.rowcount == 1

    async def remove(self, network_id: str) -> None:
        """Forget a network with its versions."""
        await self.connection.execute(delete(networks).where(networks.c.id == network_id))


@final
class SqlVersions(SqlTable):
    """See `service.application.ports.Versions`."""

    async def add(self, version: Version) -> None:
        """Remember a new version."""
        await self.connection.execute(insert(versions).values(values_of(version)))

    async def get(self, network_id: str, number: int) -> Version | None:
        """Return one version."""
        query = select(versions).where(
            versions.c.network_id == network_id, versions.c.number == number
        )
        row = await self.one(query)
        return None if row is None else Version(**row)

    async def page(self, network_id: str, page: Page) -> list[Version]:
        """Return a page, newest first."""
        query = select(versions).where(versions.c.network_id == network_id)
        if page.after is not None:
            query = query.where(versions.c.number < int(page.after))
        query = query.order_by(versions.c.number.desc()).limit(page.limit + 1)
        return [Version(**row) for row in await self.all(query)]
