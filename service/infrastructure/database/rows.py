"""Rows as domain records, and back."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from service.application.ports import Page


class SqlTable:
    """A store over one connection, in whose transaction it takes part."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def one(self, query: Select[Any]) -> dict[str, Any] | None:
        """Return the only row."""
        row = (await self.connection.execute(query)).mappings().one_or_none()
        return None if row is None else aware(row)

    async def all(self, query: Select[Any]) -> list[dict[str, Any]]:
        """Return every row."""
        return [aware(row) for row in (await self.connection.execute(query)).mappings()]


def values_of(batch: Any) -> dict[str, Any]:
    """Return a record's fields; not copied to the bottom, as `dataclasses.asdict` does."""
    return {field.name: getattr(batch, field.name) for field in fields(batch)}


def aware(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose times know that they are UTC: SQLite forgets."""
    return {
        key: value.replace(tzinfo=UTC)
        if isinstance(value, datetime) and value.tzinfo is None
        else value
        for key, value in row.items()
    }


def newest_first(query: Select[Any], table: Table, page: Page) -> Select[Any]:
    """Return one more row than the page holds, to know whether there are more."""
    if page.after is not None:
        query = query.where(table.c.id < page.after)
    return query.order_by(table.c.id.desc()).limit(page.limit + 1)
