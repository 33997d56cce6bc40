"""What the use cases need from outside, named by what they need it for."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from service.domain.datasets import Dataset
from service.domain.jobs import Checkpoint, EventBatch, Job, Status
from service.domain.keys import Key
from service.domain.networks import NetworkRecord, Version


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: at most ``limit`` after the item with the id ``after``."""

    limit: int = 50
    after: str | None = None


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The first answer to a request with an Idempotency-Key."""

    fingerprint: str
    status: int
    headers: dict[str, str]
    body: bytes


class NetworkRepository(Protocol):
    """The networks of an owner; a reference is an id or a name."""

    async def add(self, network: NetworkRecord) -> None:
        """Remember a new network; a taken name is a Conflict."""

    async def find(self, tenant: str, reference: str) -> NetworkRecord | None:
        """Return the network of that id, or of that name."""

    async def page(self, tenant: str, page: Page) -> list[NetworkRecord]:
        """Return one more than the page's limit, newest first, where there are more."""

    async def update(self, network: NetworkRecord, revision: int) -> bool:
        """Store ``network`` where the stored revision is still ``revision``."""

    async def remove(self, network_id: str) -> None:
        """Forget a network with its versions."""


class VersionRepository(Protocol):
    """The versions of networks."""

    async def add(self, version: Version) -> None:
        """Remember a new version."""

    async def get(self, network_id: str, number: int) -> Version | None:
        """Return one version."""

    async def page(self, network_id: str, page: Page) -> list[Version]:
        """Return one more than the page's limit, newest first; ``after`` is a number."""


class DatasetRepository(Protocol):
    """The datasets of an owner."""

    async def add(self, dataset: Dataset) -> None:
        """Remember a new dataset; a taken name is a Conflict."""

    async def find(self, tenant: str, reference: str) -> Dataset | None:
        """Return the dataset of that id, or of that name."""

    async def page(self, tenant: str, page: Page) -> list[Dataset]:
        """Return one more than the page's limit, newest first, where there are more."""

    async def remove(self, dataset_id: str) -> None:
        """Forget a dataset."""


class JobRepository(Protocol):
    """The jobs of an owner."""

    async def add(self, job: Job) -> None:
        """Remember a new job."""

    async def get(self, job_id: str) -> Job | None:
        """Return a job, whoever owns it."""

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """Return a job of that owner."""

    async def page(
        self, tenant: str, page: Page, status: str | None, network_id: str | None
    ) -> list[Job]:
        """Return one more than the page's limit, newest first, where there are more."""

    async def transition(self, job: Job, to: Status, **changes: Any) -> Job | None:
        """Move a job whose stored status and run are still those of ``job``; None when not."""

    async def update(self, job: Job, **changes: Any) -> bool:
        """Change fields of a job whose stored status and run are still those of ``job``."""

    async def next_queued(self, per_tenant: int | None) -> Job | None:
        """Return the longest waiting job of an owner with fewer than ``per_tenant`` running."""

    async def leased_by(self, lease_owner: str | None) -> list[Job]:
        """Return the jobs that workers of that server have; of all servers for None."""

    async def count(self, statuses: Collection[Status], *, tenant: str | None = None) -> int:
        """Return how many jobs are in these states."""

    async def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state that any is in."""

    async def active_on(self, *, network_id: str = "", dataset_id: str = "") -> Job | None:
        """Return a job that is not terminal on that network, or on that dataset."""

    async def any_on(self, dataset_id: str) -> bool:
        """Tell whether any job, ended or not, is on that dataset."""

    async def equal_work(self, tenant: str, fingerprint: str) -> list[Job]:
        """Return the jobs with that fingerprint that are queued or running, the oldest first."""

    async def recent_seconds(self, count: int) -> list[float]:
        """Return how long the newest of the jobs that ended by themselves took."""

    async def queue_positions(self, job_ids: Sequence[str]) -> dict[str, int]:
        """Return how many queued jobs come before each of these."""

    async def rename_network(self, network_id: str, name: str) -> None:
        """Let a network's jobs tell its new name."""

    async def remove(self, job_id: str) -> None:
        """Forget a job with its log and checkpoints."""

    async def expired(self, lease_owner: str) -> list[Job]:
        """Return held jobs of other servers whose lease ran out."""

    async def renew(self, lease_owner: str) -> None:
        """Renew the leases of that server."""


class JobEventRepository(Protocol):
    """What happened to jobs, in order."""

    async def append(self, batches: Sequence[EventBatch]) -> None:
        """Add records after the last one."""

    async def after(self, job_id: str, event: int, limit: int) -> list[EventBatch]:
        """Return the records that hold events later than ``event``."""

    async def epochs(self, job_id: str) -> list[EventBatch]:
        """Return all records of epochs."""


class CheckpointRepository(Protocol):
    """Saved states of jobs."""

    async def add(self, checkpoint: Checkpoint) -> None:
        """Remember a checkpoint."""

    async def of(self, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, latest first."""

    async def get(self, job_id: str, checkpoint_id: str) -> Checkpoint | None:
        """Return one checkpoint."""

    async def keep(self, checkpoint_id: str) -> None:
        """Note that a client asked for a checkpoint."""

    async def prune(self, job_id: str, keep: int, requested: int) -> None:
        """Forget all but the latest ``keep``, and the latest ``requested`` that were asked for."""


class IdempotencyRepository(Protocol):
    """First answers, by owner and Idempotency-Key."""

    async def get(self, tenant: str, key: str) -> StoredResponse | None:
        """Return the answer that was given."""

    async def add(self, tenant: str, key: str, response: StoredResponse) -> None:
        """Remember an answer."""

    async def replace(self, tenant: str, key: str, response: StoredResponse) -> None:
        """Remember another answer in the place of the first."""


class KeyRepository(Protocol):
    """API keys."""

    async def add(self, key: Key) -> None:
        """Remember a new key."""

    async def get(self, key_id: str) -> Key | None:
        """Return one key."""

    async def every(self) -> list[Key]:
        """Return all keys, the revoked ones too."""

    async def page(self, page: Page) -> list[Key]:
        """Return one more than the page's limit, newest first, where there are more."""

    async def revoke(self, key_id: str, at: datetime) -> None:
        """Note since when a key opens nothing."""

    async def state(self) -> tuple[int, str]:
        """Return what changes whenever a key is made or revoked."""

    async def tenant_of(self, reference: str) -> str | None:
        """Return whose network, dataset or job has this id."""


class UnitOfWork(Protocol):
    """One transaction over all stores."""

    networks: NetworkRepository
    versions: VersionRepository
    datasets: DatasetRepository
    jobs: JobRepository
    job_events: JobEventRepository
    checkpoints: CheckpointRepository
    idempotency: IdempotencyRepository
    keys: KeyRepository

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call when the transaction is durable; not at all when it is rolled back."""


class Database(Protocol):
    """Where all metadata lives."""

    def read(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a consistent view."""

    def write(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a transaction that commits, durably, when the block ends well."""

    async def ping(self) -> None:
        """Raise Unavailable unless the store answers."""

    async def notify(self, kind: str, reference: str) -> None:
        """Tell the other servers on the store something that it does not hold."""

    async def referenced_blobs(self) -> set[str]:
        """Return the names of all blobs that a row refers to."""


class BlobStore(Protocol):
    """Bytes named by their sha256."""

    async def put(self, data: bytes) -> str:
        """Store durably and return the name."""

    async def get(self, name: str) -> bytes:
        """Return the bytes, checked; BlobCorrupt when they are not what they were."""

    def path(self, name: str) -> Path:
        """Return where a worker on this machine finds the bytes."""

    async def sweep(self, keep: Collection[str], *, grace: float) -> int:
        """Remove blobs that nothing refers to and that are older than ``grace`` seconds."""

    async def ping(self) -> None:
        """Raise Unavailable unless bytes can be written."""


class BlobCorruptError(Exception):
    """A blob is missing, or its bytes are not those it was named by."""


class Metrics(Protocol):
    """Counts what happens, for monitoring."""

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""

    def rows(self, count: int) -> None:
        """Count rows that were predicted."""

    def gauge(self, name: str, help_text: str, values: dict[str, float], label: str = "") -> None:
        """Set a gauge, or one for each value of a label."""

    def counter(self, name: str, help_text: str, value: float) -> None:
        """Set a counter whose value is counted elsewhere."""

    def lag(self, seconds: float) -> None:
        """Record how much later than scheduled a callback of the event loop ran."""

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
