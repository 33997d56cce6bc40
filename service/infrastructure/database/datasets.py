"""Datasets in SQL."""

from typing import final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from service.application.ports import Page
from service.domain.datasets import Dataset
from service.infrastructure.database.networks import name_taken
from service.infrastructure.database.rows import SqlTable, newest_first, values_of
from service.infrastructure.database.tables import datasets


@final
class SqlDatasets(SqlTable):
    """See `service.application.ports.DatasetService`."""

    async def add(self, dataset: Dataset) -> None:
        """Remember a new dataset."""
        try:
            await self.connection.execute(insert(datasets).values(values_of(dataset)))
        except IntegrityError as error:
            raise name_taken("dataset", dataset.name) from error

    async def find(self, tenant: str, reference: str) -> Dataset | None:
        """Return the dataset of that id, or of that name."""
        query = select(datasets).where(datasets.c.tenant == tenant)
        for column in (datasets.c.id, datasets.c.name):
            row = await self.one(query.where(column == reference))
            if row is not None:
                return Dataset(**row)
        return None

    async def page(self, tenant: str, page: Page) -> list[Dataset]:
        """Return a page, newest first, without those that came inside a job."""
        query = select(datasets).where(datasets.c.tenant == tenant, datasets.c.hidden.is_(False))
        return [Dataset(**row) for row in await self.all(newest_first(query, datasets, page))]

    async def remove(self, dataset_id: str) -> None:
        """Forget a dataset."""
        await self.connection.execute(delete(datasets).where(datasets.c.id == dataset_id))
