"""Conversion between rows and domain records."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from service.application.ports.repositories import Page


class SqlTable:
    """A repository on one connection, within the transaction of that connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def fetch_one(self, query: Select[Any]) -> dict[str, Any] | None:
        """Return the row that the query selects, or None."""
        row = (await self.connection.execute(query)).mappings().one_or_none()
        return None if row is None else aware(row)

    async def fetch_all(self, query: Select[Any]) -> list[dict[str, Any]]:
        """Return all rows that the query selects."""
        return [aware(row) for row in (await self.connection.execute(query)).mappings()]


def values_of(record: Any) -> dict[str, Any]:
    """Return a record's fields, without the deep copy of `dataclasses.asdict`."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def aware(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose times have the time zone UTC, which SQLite does not store."""
    return {
        key: value.replace(tzinfo=UTC)
        if isinstance(value, datetime) and value.tzinfo is None
        else value
        for key, value in row.items()
    }


def newest_first(query: Select[Any], table: Table, pagination: Page) -> Select[Any]:
    """Select a page plus one row, which shows that there is another page."""
    if pagination.after is not None:
        query = query.where(table.c.id < pagination.after)
    return query.order_by(table.c.id.desc()).limit(pagination.limit + 1)
