"""Jobs in SQL; every transition is a compare-and-set on status and attempt."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, final

from sqlalchemy import delete, func, insert, select, update

from service.application.ports.repositories import Page
from service.domain.jobs import ACTIVE, LEASED, TRANSITIONS, Job, Progress, Status
from service.infrastructure.database.clock import now
from service.infrastructure.database.rows import SqlTable, newest_first, values_of
from service.infrastructure.database.tables import jobs

ACTIVE_STATUSES: Final = (Status.QUEUED, Status.STARTING, Status.RUNNING)
LEASE: Final = timedelta(seconds=15)
"""Time for which a server leases a job before it must renew the lease."""


@final
class SqlJobs(SqlTable):
    """Implements `service.application.ports.repositories.JobRepository` in SQL."""

    async def add(self, job: Job) -> None:
        """Store a new job."""
        row = values_of(job) | {"progress": values_of(job.progress)}
        await self.connection.execute(insert(jobs).values(row))

    async def get(self, job_id: str) -> Job | None:
        """Return a job of any tenant, or None."""
        row = await self.fetch_one(select(jobs).where(jobs.c.id == job_id))
        return None if row is None else _job(row)

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """Return a job of the tenant, or None."""
        row = await self.fetch_one(select(jobs).where(jobs.c.id == job_id, jobs.c.tenant == tenant))
        return None if row is None else _job(row)

    async def page(
        self, tenant: str, pagination: Page, status: str | None, network_id: str | None
    ) -> list[Job]:
        """Return a page of jobs, newest first, filtered by status and network."""
        query = select(jobs).where(jobs.c.tenant == tenant)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if network_id is not None:
            query = query.where(jobs.c.network_id == network_id)
        return [_job(row) for row in await self.fetch_all(newest_first(query, jobs, pagination))]

    async def transition(self, job: Job, to: Status, **changes: Any) -> Job | None:
        """Change the status of the job, or return None if it has changed concurrently."""
        if to not in TRANSITIONS[job.status]:
            message = f"invalid transition: {job.status} -> {to}"
            raise ValueError(message)
        if to in LEASED:
            changes["lease_until"] = now(self.connection) + LEASE
        else:
            changes |= {"lease_owner": None, "lease_until": None}
        if not await self.update(job, status=to, **changes):
            return None
        changes.pop("lease_until")
        return replace(job, status=to, **changes)

    async def update(self, job: Job, **changes: Any) -> bool:
        """Change fields of the job, or return False if its status or attempt has changed."""
        unchanged = (
            (jobs.c.id == job.id) & (jobs.c.status == job.status) & (jobs.c.attempt == job.attempt)
        )
        if isinstance(changes.get("progress"), Progress):
            changes["progress"] = values_of(changes["progress"])
        result = await self.connection.execute(update(jobs).where(unchanged).values(**changes))
        return result.rowcount == 1

    async def next_queued(self, excluded: Collection[str]) -> Job | None:
        """Return the oldest queued job of all but the excluded tenants."""
        queued = select(jobs).where(jobs.c.status == Status.QUEUED)
        if excluded:
            queued = queued.where(jobs.c.tenant.not_in(excluded))
        demo = select(jobs.c.id).where(jobs.c.status.in_(LEASED), jobs.c.demo)
        queued = queued.where(~(jobs.c.demo & demo.exists()))  # demonstrations run one at a time
        row = await self.fetch_one(queued.order_by(jobs.c.id).limit(1))
        return None if row is None else _job(row)

    async def leased_by(self, lease_owner: str | None) -> list[Job]:
        """Return the leased jobs of a server, or of all servers for None."""
        query = select(jobs).where(jobs.c.status.in_(LEASED))
        if lease_owner is not None:
            query = query.where(jobs.c.lease_owner == lease_owner)
        return [_job(row) for row in await self.fetch_all(query.order_by(jobs.c.id))]

    async def expired(self, lease_owner: str) -> list[Job]:
        """Return jobs that other servers leased and whose lease has expired."""
        query = select(jobs).where(
            jobs.c.status.in_(LEASED),
            jobs.c.lease_owner != lease_owner,
            jobs.c.lease_until < now(self.connection),
        )
        return [_job(row) for row in await self.fetch_all(query)]

    async def renew(self, lease_owner: str) -> None:
        """Renew all leases of a server."""
        await self.connection.execute(
            update(jobs)
            .where(jobs.c.lease_owner == lease_owner, jobs.c.status.in_(LEASED))
            .values(lease_until=now(self.connection) + LEASE)
        )

    async def count(self, statuses: Collection[Status], *, tenant: str | None = None) -> int:
        """Return the number of jobs in these statuses."""
        query = select(func.count()).select_from(jobs).where(jobs.c.status.in_(statuses))
        if tenant is not None:
            query = query.where(jobs.c.tenant == tenant)
        return int((await self.connection.execute(query)).scalar_one())

    async def counts(self) -> dict[str, int]:
        """Return the number of jobs by status, without empty statuses."""
        query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
        rows = await self.connection.execute(query)
        return {str(row.status): int(row[1]) for row in rows}

    async def active_on(self, *, network_id: str = "", dataset_id: str = "") -> Job | None:
        """Return the newest active job on the network or the dataset, or None."""
        query = select(jobs).where(
            (jobs.c.network_id == network_id) | (jobs.c.dataset_id == dataset_id),
            jobs.c.status.in_(ACTIVE),
        )
        row = await self.fetch_one(query.order_by(jobs.c.id.desc()).limit(1))
        return None if row is None else _job(row)

    async def active_from(self, network_id: str, version: int) -> Job | None:
        """Return an active job on the network that starts from the version, or None."""
        query = select(jobs).where(
            jobs.c.network_id == network_id,
            jobs.c.base_version == version,
            jobs.c.status.in_(ACTIVE),
        )
        row = await self.fetch_one(query.limit(1))
        return None if row is None else _job(row)

    async def any_on(self, dataset_id: str) -> bool:
        """Return True if any job, finished or not, uses the dataset."""
        query = select(jobs.c.id).where(jobs.c.dataset_id == dataset_id).limit(1)
        return await self.fetch_one(query) is not None

    async def equal_work(self, tenant: str, fingerprint: str) -> list[Job]:
        """Return the queued and running jobs with that fingerprint, oldest first."""
        query = select(jobs).where(
            jobs.c.tenant == tenant,
            jobs.c.fingerprint == fingerprint,
            jobs.c.status.in_(ACTIVE_STATUSES),
        )
        return [_job(row) for row in await self.fetch_all(query.order_by(jobs.c.id))]

    async def queue_positions(self, job_ids: Sequence[str]) -> dict[str, int]:
        """Return the number of queued jobs ahead of each of these jobs that is queued."""
        if not job_ids:
            return {}
        position = (func.row_number().over(order_by=jobs.c.id) - 1).label("position")
        queue = select(jobs.c.id, position).where(jobs.c.status == Status.QUEUED).subquery()
        requested = select(queue.c.id, queue.c.position).where(queue.c.id.in_(job_ids))
        rows = await self.connection.execute(requested)
        return {str(row.id): int(row.position) for row in rows}

    async def recent_seconds(self, count: int) -> list[float]:
        """Return the durations of the newest jobs that succeeded or failed, in seconds."""
        ended = jobs.c.status.in_([Status.SUCCEEDED, Status.FAILED])
        query = select(jobs.c.started_at, jobs.c.finished_at).where(
            ended, jobs.c.started_at.is_not(None)
        )
        rows = await self.connection.execute(query.order_by(jobs.c.id.desc()).limit(count))
        return [(row.finished_at - row.started_at).total_seconds() for row in rows]

    async def rename_network(self, network_id: str, name: str) -> None:
        """Store the new name of a network in its jobs."""
        matches = jobs.c.network_id == network_id
        await self.connection.execute(update(jobs).where(matches).values(network_name=name))

    async def remove(self, job_id: str) -> None:
        """Delete a job with its events and checkpoints."""
        await self.connection.execute(delete(jobs).where(jobs.c.id == job_id))


def _job(row: dict[str, Any]) -> Job:
    row.pop("lease_until")
    row["status"] = Status(row["status"])
    row["progress"] = Progress(**row["progress"])
    return Job(**row)
