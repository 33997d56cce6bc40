"""Idempotent requests: the first response for a key is stored with the resource it created."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, final

from service.application.ports.database import Database, UnitOfWork
from service.application.ports.repositories import StoredResponse
from service.domain.errors import ConflictError, IdempotencyKeyReusedError

REUSED_KEY: Final = "this Idempotency-Key was used for a different request; use a new key"


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """A request that creates a resource: its tenant, Idempotency-Key and content digest."""

    tenant: str
    key: str | None
    fingerprint: str


@final
class IdempotentRequests:
    """Creates resources and stores the responses in the same transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: set[tuple[str, str]] = set()

    async def run(
        self, request: IdempotencyRecord, create: Callable[[UnitOfWork], Awaitable[StoredResponse]]
    ) -> tuple[StoredResponse, bool]:
        """Return the response, and True if it is the stored response of an earlier request.

        Raises
        ------
        IdempotencyKeyReusedError
            If the key was used for a different request.
        ConflictError
            If a request with this key is still running.
        """
        with self.reserve(request):
            return await self.run_reserved(request, create)

    @contextmanager
    def reserve(self, request: IdempotencyRecord) -> Iterator[None]:
        """Reject other requests with the same key within the context.

        Raises
        ------
        ConflictError
            If a request with this key is still running.
        """
        if request.key is None:
            yield
            return
        reservation = (request.tenant, request.key)
        if reservation in self._running:
            problem = "a request with this Idempotency-Key is still running; retry later"
            raise ConflictError(problem, code="idempotency_key_in_use")
        self._running.add(reservation)
        try:
            yield
        finally:
            self._running.discard(reservation)

    async def run_reserved(
        self, request: IdempotencyRecord, create: Callable[[UnitOfWork], Awaitable[StoredResponse]]
    ) -> tuple[StoredResponse, bool]:
        """Return the same as `run`, for a caller that has called `reserve`."""
        key = request.key
        async with self._database.write() as work:
            if key is None:
                return await create(work), False
            stored = await work.idempotency.get(request.tenant, key)
            if stored is not None:
                if stored.fingerprint != request.fingerprint:
                    raise IdempotencyKeyReusedError(REUSED_KEY)
                return stored, True
            response = replace(await create(work), fingerprint=request.fingerprint)
            await work.idempotency.add(request.tenant, key, response)
            return response, False

    async def amend(self, request: IdempotencyRecord, response: StoredResponse) -> None:
        """Replace the stored response of a request by its final response."""
        if request.key is not None:
            async with self._database.write() as work:
                amended = replace(response, fingerprint=request.fingerprint)
                await work.idempotency.replace(request.tenant, request.key, amended)

    async def stored_response(self, request: IdempotencyRecord) -> StoredResponse | None:
        """Return the stored response, if any, without running the request.

        Raises
        ------
        IdempotencyKeyReusedError
            If the key was used for a different request.
        """
        if request.key is None:
            return None
        async with self._database.read() as work:
            stored = await work.idempotency.get(request.tenant, request.key)
        if stored is not None and stored.fingerprint != request.fingerprint:
            raise IdempotencyKeyReusedError(REUSED_KEY)
        return stored
