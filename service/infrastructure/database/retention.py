"""Expired rows and stored bytes, in SQL."""

from datetime import timedelta
from typing import Any, Final, NamedTuple, final

from sqlalchemy import ColumnElement, Table, case, delete, func, select, text, true, tuple_

from service.application.ports.repositories import Expired
from service.domain.jobs import ACTIVE, TERMINAL, Status
from service.domain.retention import Usage
from service.infrastructure.database import postgres
from service.infrastructure.database.clock import now
from service.infrastructure.database.rows import SqlTable
from service.infrastructure.database.tables import (
    checkpoints,
    datasets,
    job_events,
    jobs,
    networks,
    versions,
)

NUMBER_BYTES: Final = 8
"""Bytes of a number in the rows of a dataset."""

STATES_PER_CHECKPOINT: Final = 4
"""A training state has the parameters, the best ones and usually two moments for each."""

DETAILS: Final = ("epoch", "log", "boundary", "checkpoint")
"""Types of events that retention deletes; changes of status remain."""


class _Rows(NamedTuple):
    """Rows of a table."""

    table: Table
    condition: ColumnElement[bool]


@final
class SqlRetention(SqlTable):
    """Implements `service.application.ports.repositories.RetentionRepository` in SQL."""

    async def count_expired(self, kind: Expired, after: timedelta) -> int:
        """Return the number of rows that have expired."""
        rows = self._expired(kind, after)
        query = select(func.count()).select_from(rows.table).where(rows.condition)
        return int((await self.connection.execute(query)).scalar_one())

    async def remove_expired(self, kind: Expired, after: timedelta, limit: int) -> int:
        """Delete at most ``limit`` expired rows, and return their number."""
        rows = self._expired(kind, after)
        keys = list(rows.table.primary_key)
        query = select(*keys).where(rows.condition).limit(limit)
        expired = [tuple(row) for row in await self.connection.execute(query)]
        if expired:
            await self.connection.execute(delete(rows.table).where(tuple_(*keys).in_(expired)))
        return len(expired)

    def _expired(self, kind: Expired, after: timedelta) -> _Rows:
        """Return the expired rows of a kind."""
        cutoff = now(self.connection) - after
        ended = jobs.c.status.in_(TERMINAL) & (jobs.c.finished_at < cutoff)
        of_ended = select(jobs.c.id).where(ended)
        log = job_events.c.job_id.in_(of_ended)
        automatic = ~checkpoints.c.requested & checkpoints.c.job_id.in_(of_ended)
        demo = networks.c.demo & (networks.c.created_at < cutoff)
        inline = datasets.c.hidden & (datasets.c.created_at < cutoff)
        rows: dict[Expired, _Rows] = {
            Expired.DEMO_JOBS: _Rows(jobs, jobs.c.demo & ended),
            Expired.DEMO_NETWORKS: _Rows(networks, demo & networks.c.id.not_in(_at_work())),
            Expired.JOBS: _Rows(jobs, ended),
            Expired.EVENTS: _Rows(job_events, log & job_events.c.type.in_(DETAILS)),
            Expired.BOUNDARY_FRAMES: _Rows(job_events, log & (job_events.c.type == "boundary")),
            Expired.CHECKPOINTS: _Rows(
                checkpoints, automatic & checkpoints.c.id.not_in(_last_unfinished())
            ),
            Expired.LAST_CHECKPOINTS: _Rows(checkpoints, automatic),
            Expired.INLINE_DATASETS: _Rows(
                datasets, inline & datasets.c.id.not_in(select(jobs.c.dataset_id))
            ),
        }
        return rows[kind]

    async def usage(self, tenant: str | None) -> Usage:
        """Return the usage of a tenant, or of all tenants for None."""

        def of_tenant(table: Table) -> ColumnElement[bool]:
            return true() if tenant is None else table.c.tenant == tenant

        size = networks.c.parameter_count * case((networks.c.dtype == "float64", 8), else_=4)
        weights = select(func.sum(size)).join(versions, versions.c.network_id == networks.c.id)
        states = (
            select(func.sum(size))
            .join(jobs, jobs.c.network_id == networks.c.id)
            .join(checkpoints, checkpoints.c.job_id == jobs.c.id)
        )
        rows = await self.connection.execute(
            select(datasets.c.rows, datasets.c.input_shape, datasets.c.outputs).where(
                of_tenant(datasets)
            )
        )
        visible = of_tenant(datasets) & ~datasets.c.hidden
        return Usage(
            networks=await self._number(
                select(func.count()).select_from(networks).where(of_tenant(networks))
            ),
            datasets=await self._number(select(func.count()).select_from(datasets).where(visible)),
            weights=await self._number(weights.where(of_tenant(networks))),
            rows=sum(row.rows * (row.input_shape[0] + row.outputs) * NUMBER_BYTES for row in rows),
            checkpoints=STATES_PER_CHECKPOINT
            * await self._number(states.where(of_tenant(networks))),
        )

    async def database_bytes(self) -> int:
        """Return the size of the database."""
        if self.connection.dialect.name == postgres.DIALECT:
            return await self._number(select(func.pg_database_size(func.current_database())))
        pages = text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return await self._number(pages)

    async def _number(self, query: Any) -> int:
        """Return the only number of a query; 0 for NULL."""
        return int((await self.connection.execute(query)).scalar_one() or 0)


def _at_work() -> Any:
    """Select the networks with a job that has not ended."""
    return select(jobs.c.network_id).where(jobs.c.status.in_(ACTIVE))


def _last_unfinished() -> Any:
    """Select the last checkpoint of each job that was cancelled or failed."""
    return (
        select(func.max(checkpoints.c.id))
        .join(jobs, jobs.c.id == checkpoints.c.job_id)
        .where(jobs.c.status.in_([Status.CANCELLED, Status.FAILED]))
        .group_by(checkpoints.c.job_id)
    )
