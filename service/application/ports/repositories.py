"""Repositories: the rows of each feature, within one transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from service.domain.datasets import Dataset
from service.domain.jobs import Checkpoint, EventBatch, Job, Status
from service.domain.keys import Key
from service.domain.networks import NetworkRecord, Version
from service.domain.retention import Usage


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: at most ``limit`` items after the item with the id ``after``."""

    limit: int = 50
    after: str | None = None


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The first response to a request with an Idempotency-Key."""

    fingerprint: str
    status: int
    headers: dict[str, str]
    body: bytes


class NetworkRepository(Protocol):
    """The networks of all tenants; a reference is an id or a name."""

    async def add(self, network: NetworkRecord) -> None:
        """Store a new network; raise ConflictError if its name is taken."""

    async def find(self, tenant: str, reference: str) -> NetworkRecord | None:
        """Return the tenant's network with this id or name."""

    async def page(
        self, tenant: str, pagination: Page, *, without_demo: bool
    ) -> list[NetworkRecord]:
        """Return at most the limit plus one, newest first; the extra item shows that more exist."""

    async def update(self, network: NetworkRecord, revision: int) -> bool:
        """Store ``network``; return False if the stored revision is no longer ``revision``."""

    async def remove(self, network_id: str) -> None:
        """Delete a network with its versions."""


class VersionRepository(Protocol):
    """The versions of networks."""

    async def add(self, version: Version) -> None:
        """Store a new version."""

    async def get(self, network_id: str, number: int) -> Version | None:
        """Return a version."""

    async def page(self, network_id: str, pagination: Page) -> list[Version]:
        """Return at most the limit plus one, newest first; ``after`` is a version number."""

    async def remove(self, network_id: str, number: int) -> None:
        """Delete a version."""


class DatasetRepository(Protocol):
    """The datasets of all tenants; a reference is an id or a name."""

    async def add(self, dataset: Dataset) -> None:
        """Store a new dataset; raise ConflictError if its name is taken."""

    async def find(self, tenant: str, reference: str) -> Dataset | None:
        """Return the tenant's dataset with this id or name."""

    async def page(self, tenant: str, pagination: Page) -> list[Dataset]:
        """Return at most the limit plus one, newest first; the extra item shows that more exist."""

    async def remove(self, dataset_id: str) -> None:
        """Delete a dataset."""


class JobRepository(Protocol):
    """The jobs of all tenants."""

    async def add(self, job: Job) -> None:
        """Store a new job."""

    async def get(self, job_id: str) -> Job | None:
        """Return a job of any tenant."""

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """Return a job of this tenant."""

    async def page(
        self, tenant: str, pagination: Page, status: str | None, network_id: str | None
    ) -> list[Job]:
        """Return at most the limit plus one, newest first; the extra item shows that more exist."""

    async def transition(self, job: Job, to: Status, **changes: Any) -> Job | None:
        """Move a job to a status and change fields.

        Return None if the stored status and attempt are no longer those of ``job``.
        """

    async def update(self, job: Job, **changes: Any) -> bool:
        """Change fields of a job.

        Return False if the stored status and attempt are no longer those of ``job``.
        """

    async def next_queued(self, excluded: Collection[str]) -> Job | None:
        """Return the job that has waited longest, of all but the excluded tenants."""

    async def leased_by(self, lease_owner: str | None) -> list[Job]:
        """Return the jobs leased by a server, or by any server if ``lease_owner`` is None."""

    async def count(self, statuses: Collection[Status], *, tenant: str | None = None) -> int:
        """Return the number of jobs with one of these statuses."""

    async def counts(self) -> dict[str, int]:
        """Return the number of jobs for each status that any job has."""

    async def active_on(self, *, network_id: str = "", dataset_id: str = "") -> Job | None:
        """Return a job that has not ended and uses this network or this dataset."""

    async def active_from(self, network_id: str, version: int) -> Job | None:
        """Return a job that has not ended and starts from this version of the network."""

    async def any_on(self, dataset_id: str) -> bool:
        """Return True if any job, ended or not, uses this dataset."""

    async def equal_work(self, tenant: str, fingerprint: str) -> list[Job]:
        """Return the queued and running jobs with this fingerprint, oldest first."""

    async def recent_seconds(self, count: int) -> list[float]:
        """Return the durations of the newest ``count`` jobs that succeeded or failed."""

    async def queue_positions(self, job_ids: Sequence[str]) -> dict[str, int]:
        """Return the number of queued jobs before each of these jobs, by job id."""

    async def rename_network(self, network_id: str, name: str) -> None:
        """Change the network name of a network's jobs."""

    async def remove(self, job_id: str) -> None:
        """Delete a job with its log and checkpoints."""

    async def expired(self, lease_owner: str) -> list[Job]:
        """Return the jobs of other servers whose lease has expired."""

    async def renew(self, lease_owner: str) -> None:
        """Renew the leases of a server."""


class JobEventRepository(Protocol):
    """The event logs of jobs."""

    async def append(self, batches: Sequence[EventBatch]) -> None:
        """Append batches to the log."""

    async def after(self, job_id: str, event: int, limit: int) -> list[EventBatch]:
        """Return the first ``limit`` batches that hold events after ``event``."""

    async def epochs(self, job_id: str, event: int, limit: int) -> list[EventBatch]:
        """Return at most ``limit`` batches of epochs after ``event``, oldest first."""


class CheckpointRepository(Protocol):
    """The checkpoints of jobs."""

    async def add(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint."""

    async def of(self, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, latest first."""

    async def get(self, job_id: str, checkpoint_id: str) -> Checkpoint | None:
        """Return a checkpoint of a job."""

    async def keep(self, checkpoint_id: str) -> None:
        """Mark a checkpoint as requested by a client."""

    async def prune(self, job_id: str, keep: int, requested: int) -> None:
        """Delete all but the latest ``keep`` and the latest ``requested`` marked as requested."""


class IdempotencyRepository(Protocol):
    """The first responses to requests, by tenant and Idempotency-Key."""

    async def get(self, tenant: str, key: str) -> StoredResponse | None:
        """Return the stored response."""

    async def add(self, tenant: str, key: str, response: StoredResponse) -> None:
        """Store a response."""

    async def replace(self, tenant: str, key: str, response: StoredResponse) -> None:
        """Replace a stored response."""


class Expired(StrEnum):
    """Kinds of data that have a retention period."""

    DEMO_JOBS = "demo_jobs"
    DEMO_NETWORKS = "demo_networks"
    JOBS = "jobs"
    EVENTS = "events"
    BOUNDARY_FRAMES = "boundary_frames"
    CHECKPOINTS = "checkpoints"
    LAST_CHECKPOINTS = "last_checkpoints"
    INLINE_DATASETS = "inline_datasets"


class RetentionRepository(Protocol):
    """Expired rows, and the usage of tenants."""

    async def count_expired(self, kind: Expired, after: timedelta) -> int:
        """Return the number of rows that are older than ``after``, or whose job ended before."""

    async def remove_expired(self, kind: Expired, after: timedelta, limit: int) -> int:
        """Delete at most ``limit`` of these rows, and return their number."""

    async def usage(self, tenant: str | None) -> Usage:
        """Return the usage of a tenant, or of all tenants for None."""

    async def database_bytes(self) -> int:
        """Return the size of the database."""


class KeyRepository(Protocol):
    """API keys."""

    async def add(self, key: Key) -> None:
        """Store a new key."""

    async def get(self, key_id: str) -> Key | None:
        """Return a key."""

    async def every(self) -> list[Key]:
        """Return all keys, including revoked ones."""

    async def page(self, pagination: Page) -> list[Key]:
        """Return at most the limit plus one, newest first; the extra item shows that more exist."""

    async def revoke(self, key_id: str, at: datetime) -> None:
        """Mark a key as revoked since ``at``."""

    async def state(self) -> tuple[int, str]:
        """Return a value that changes whenever a key is created or revoked."""

    async def tenant_of(self, reference: str) -> str | None:
        """Return the tenant of the network, dataset or job with this id."""
