"""Jobs in SQL; every move is a compare-and-set on status and run."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, final

from sqlalchemy import DateTime, delete, func, insert, select, update

from service.application.ports import Page
from service.domain.jobs import ACTIVE, LEASED, TRANSITIONS, Job, Progress, Status
from service.infrastructure.database import postgres
from service.infrastructure.database.rows import SqlTable, newest_first, values_of
from service.infrastructure.database.tables import jobs

ACTIVE_STATUSES: Final = (Status.QUEUED, Status.STARTING, Status.RUNNING)
LEASE: Final = timedelta(seconds=15)


@final
class SqlJobs(SqlTable):
    """See `service.application.ports.JobService`."""

    async def add(self, job: Job) -> None:
        """Remember a new job."""
        row = values_of(job) | {"progress": values_of(job.progress)}
        await self.connection.execute(insert(jobs).values(row))

    async def get(self, job_id: str) -> Job | None:
        """Return a job, whoever owns it."""
        row = await self.one(select(jobs).where(jobs.c.id == job_id))
        return None if row is None else _job(row)

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """Return a job of that owner."""
        row = await self.one(select(jobs).where(jobs.c.id == job_id, jobs.c.tenant == tenant))
        return None if row is None else _job(row)

    async def page(
        self, tenant: str, page: Page, status: str | None, network_id: str | None
    ) -> list[Job]:
        """Return a page, newest first."""
        query = select(jobs).where(jobs.c.tenant == tenant)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if network_id is not None:
            query = query.where(jobs.c.network_id == network_id)
        return [_job(row) for row in await self.all(newest_first(query, jobs, page))]

    async def transition(self, job: Job, to: Status, **changes: Any) -> Job | None:
        """Move the job unless someone else moved it first."""
        if to not in TRANSITIONS[job.status]:
            message = f"{job.status} -> {to} is no legal move"
            raise ValueError(message)
        if to in LEASED:
            changes["lease_until"] = self._clock() + LEASE
        else:
            changes |= {"lease_owner": None, "lease_until": None}
        if not await self.update(job, status=to, **changes):
            return None
        changes.pop("lease_until")
        return replace(job, status=to, **changes)

    async def update(self, job: Job, **changes: Any) -> bool:
        """Change fields unless someone else moved the job first."""
        unmoved = (
            (jobs.c.id == job.id) & (jobs.c.status == job.status) & (jobs.c.attempt == job.attempt)
        )
        if isinstance(changes.get("progress"), Progress):
            changes["progress"] = values_of(changes["progress"])
        result = await self.connection.execute(update(jobs).where(unmoved).values(**changes))
        return result.rowcount == 1

    async def next_queued(self, per_tenant: int | None) -> Job | None:
        """Return the longest waiting job of an owner with fewer than ``per_tenant`` running."""
        queued = select(jobs).where(jobs.c.status == Status.QUEUED)
        if per_tenant is not None:
            held = select(jobs.c.tenant).where(jobs.c.status.in_(LEASED)).group_by(jobs.c.tenant)
            queued = queued.where(jobs.c.tenant.not_in(held.having(func.count() >= per_tenant)))
        row = await self.one(queued.order_by(jobs.c.id).limit(1))
        return None if row is None else _job(row)

    async def leased_by(self, lease_owner: str | None) -> list[Job]:
        """Return the jobs that workers of that server have."""
        query = select(jobs).where(jobs.c.status.in_(LEASED))
        if lease_owner is not None:
            query = query.where(jobs.c.lease_owner == lease_owner)
        return [_job(row) for row in await self.all(query.order_by(jobs.c.id))]

    async def expired(self, lease_owner: str) -> list[Job]:
        """Return held jobs of other servers whose lease ran out."""
        query = select(jobs).where(
            jobs.c.status.in_(LEASED),
            jobs.c.lease_owner != lease_owner,
            jobs.c.lease_until < self._clock(),
        )
        return [_job(row) for row in await self.all(query)]

    async def renew(self, lease_owner: str) -> None:
        """Renew the leases of that server."""
        await self.connection.execute(
            update(jobs)
            .where(jobs.c.lease_owner == lease_owner, jobs.c.status.in_(LEASED))
            .values(lease_until=self._clock() + LEASE)
        )

    def _clock(self) -> Any:
        """Return the time that leases go by: where servers share them, the database's."""
        if self.connection.dialect.name == postgres.DIALECT:
            return func.clock_timestamp(type_=DateTime(timezone=True))
        return datetime.now(UTC)

    async def count(self, statuses: Collection[Status], *, tenant: str | None = None) -> int:
        """Return how many jobs are in these states."""
        query = select(func.count()).select_from(jobs).where(jobs.c.status.in_(statuses))
        if tenant is not None:
            query = query.where(jobs.c.tenant == tenant)
        return int((await self.connection.execute(query)).scalar_one())

    async def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state that any is in."""
        query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
        found = await self.connection.execute(query)
        return {str(row.status): int(row[1]) for row in found}

    async def active_on(self, *, network_id: str = "", dataset_id: str = "") -> Job | None:
        """Return a job that is not terminal on that network, or on that dataset."""
        query = select(jobs).where(
            (jobs.c.network_id == network_id) | (jobs.c.dataset_id == dataset_id),
            jobs.c.status.in_(ACTIVE),
        )
        row = await self.one(query.order_by(jobs.c.id.desc()).limit(1))
        return None if row is None else _job(row)

    async def any_on(self, dataset_id: str) -> bool:
        """Tell whether any job, ended or not, is on that dataset."""
        query = select(jobs.c.id).where(jobs.c.dataset_id == dataset_id).limit(1)
        return await self.one(query) is not None

    async def equal_work(self, tenant: str, fingerprint: str) -> list[Job]:
        """Return the jobs with that fingerprint that are queued or running, the oldest first."""
        query = select(jobs).where(
            jobs.c.tenant == tenant,
            jobs.c.fingerprint == fingerprint,
            jobs.c.status.in_(ACTIVE_STATUSES),
        )
        return [_job(row) for row in await self.all(query.order_by(jobs.c.id))]

    async def queue_positions(self, job_ids: Sequence[str]) -> dict[str, int]:
        """Return how many queued jobs come before each of these."""
        if not job_ids:
            return {}
        place = (func.row_number().over(order_by=jobs.c.id) - 1).label("place")
        queue = select(jobs.c.id, place).where(jobs.c.status == Status.QUEUED).subquery()
        requested = select(queue.c.id, queue.c.place).where(queue.c.id.in_(job_ids))
        found = await self.connection.execute(requested)
        return {str(row.id): int(row.place) for row in found}

    async def recent_seconds(self, count: int) -> list[float]:
        """Return how long the newest of the jobs that ended by themselves took."""
        ended = jobs.c.status.in_([Status.SUCCEEDED, Status.FAILED])
        query = select(jobs.c.started_at, jobs.c.finished_at).where(
            ended, jobs.c.started_at.is_not(None)
        )
        rows = await self.connection.execute(query.order_by(jobs.c.id.desc()).limit(count))
        return [(row.finished_at - row.started_at).total_seconds() for row in rows]

    async def rename_network(self, network_id: str, name: str) -> None:
        """Let a network's jobs tell its new name."""
        mine = jobs.c.network_id == network_id
        await self.connection.execute(update(jobs).where(mine).values(network_name=name))

    async def remove(self, job_id: str) -> None:
        """Forget a job with its log and checkpoints."""
        await self.connection.execute(delete(jobs).where(jobs.c.id == job_id))


def _job(row: dict[str, Any]) -> Job:
    row.pop("lease_until")
    row["status"] = Status(row["status"])
    row["progress"] = Progress(**row["progress"])
    return Job(**row)
