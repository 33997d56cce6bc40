"""Finding the jobs of a tenant."""

from service.application.ports.database import Database, UnitOfWork
from service.application.ports.repositories import Page
from service.domain.errors import NotFoundError
from service.domain.jobs import Job


async def read_job(database: Database, tenant: str, job_id: str) -> Job:
    """Return a job, read in a transaction of its own; see `find_job`."""
    async with database.read() as work:
        return await find_job(work, tenant, job_id)


async def find_job(work: UnitOfWork, tenant: str, job_id: str) -> Job:
    """Return a job by id, or the newest job for "latest".

    Raises
    ------
    NotFoundError
        If the tenant has no such job.
    """
    if job_id == "latest":
        newest = await work.jobs.page(tenant, Page(limit=1), None, None)
        job = newest[0] if newest else None
    else:
        job = await work.jobs.find(tenant, job_id)
    if job is None:
        raise NotFoundError("job", job_id)
    return job
