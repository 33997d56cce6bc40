"""Datasets in SQL."""

from typing import final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from service.application.ports.repositories import Page
from service.domain.datasets import Dataset
from service.infrastructure.database.networks import name_taken
from service.infrastructure.database.rows import SqlTable, newest_first, values_of
from service.infrastructure.database.tables import datasets


@final
class SqlDatasets(SqlTable):
    """Implements `service.application.ports.repositories.DatasetRepository` in SQL."""

    async def add(self, dataset: Dataset) -> None:
        """Store a new dataset. Raise ConflictError if its name is taken."""
        try:
            await self.connection.execute(insert(datasets).values(values_of(dataset)))
        except IntegrityError as error:
            raise name_taken("dataset", dataset.name) from error

    async def find(self, tenant: str, reference: str) -> Dataset | None:
        """Return the dataset with that id or, failing that, with that name."""
        query = select(datasets).where(datasets.c.tenant == tenant)
        for column in (datasets.c.id, datasets.c.name):
            row = await self.fetch_one(query.where(column == reference))
            if row is not None:
                return Dataset(**row)
        return None

    async def page(self, tenant: str, pagination: Page) -> list[Dataset]:
        """Return a page of datasets, newest first, without datasets uploaded as part of a job."""
        query = select(datasets).where(datasets.c.tenant == tenant, datasets.c.hidden.is_(False))
        return [
            Dataset(**row)
            for row in await self.fetch_all(newest_first(query, datasets, pagination))
        ]

    async def remove(self, dataset_id: str) -> None:
        """Delete a dataset."""
        await self.connection.execute(delete(datasets).where(datasets.c.id == dataset_id))
