"""Transactions over all repositories."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from service.application.ports.repositories import (
    CheckpointRepository,
    DatasetRepository,
    IdempotencyRepository,
    JobEventRepository,
    JobRepository,
    KeyRepository,
    NetworkRepository,
    RetentionRepository,
    VersionRepository,
)


class UnitOfWork(Protocol):
    """One transaction over all repositories."""

    networks: NetworkRepository
    versions: VersionRepository
    datasets: DatasetRepository
    jobs: JobRepository
    job_events: JobEventRepository
    checkpoints: CheckpointRepository
    idempotency: IdempotencyRepository
    keys: KeyRepository
    retention: RetentionRepository

    def after_commit(self, call: Callable[[], None]) -> None:
        """Register a function to call after the commit; it is not called after a rollback."""


class Database(Protocol):
    """Stores all metadata."""

    def read(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a read-only transaction with a consistent view."""

    def write(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a transaction that commits durably unless the block raises."""

    async def ping(self) -> None:
        """Raise UnavailableError if the database does not respond."""

    async def notify(self, kind: str, reference: str) -> None:
        """Notify the other servers that use the database; the message is not stored."""

    async def referenced_blobs(self) -> set[str]:
        """Return the names of all blobs that rows refer to."""
