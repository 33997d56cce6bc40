"""Creating once: the first answer to a key is stored with what it created."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

from service.application.ports import Database, StoredResponse, UnitOfWork
from service.domain.errors import ConflictError, IdempotencyKeyReusedError


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """A creating request: whose, under which key, and the digest of what it asks for."""

    tenant: str
    key: str | None
    fingerprint: str


@final
class IdempotentRequests:
    """Runs creations in one transaction with the memory of their answers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: set[tuple[str, str]] = set()

    async def run(
        self, request: IdempotencyRecord, create: Callable[[UnitOfWork], Awaitable[StoredResponse]]
    ) -> tuple[StoredResponse, bool]:
        """Return the answer, and whether it is the first one again.

        Raises
        ------
        KeyReused
            When the key came with another request before.
        Conflict
            When a request with this key is still running.
        """
        with self.reserve(request):
            return await self.run_reserved(request, create)

    @contextmanager
    def reserve(self, request: IdempotencyRecord) -> Iterator[None]:
        """Let nobody else come with the same key meanwhile."""
        if request.key is None:
            yield
            return
        place = (request.tenant, request.key)
        if place in self._running:
            problem = "a request with this Idempotency-Key is still running"
            raise ConflictError(problem, code="idempotency_key_in_use")
        self._running.add(place)
        try:
            yield
        finally:
            self._running.discard(place)

    async def run_reserved(
        self, request: IdempotencyRecord, create: Callable[[UnitOfWork], Awaitable[StoredResponse]]
    ) -> tuple[StoredResponse, bool]:
        """As calling does, for one who is `alone` already."""
        key = request.key
        async with self._database.write() as work:
            if key is None:
                return await create(work), False
            saved = await work.idempotency.get(request.tenant, key)
            if saved is not None:
                if saved.fingerprint != request.fingerprint:
                    problem = "this Idempotency-Key came with another request before"
                    raise IdempotencyKeyReusedError(problem)
                return saved, True
            response = replace(await create(work), fingerprint=request.fingerprint)
            await work.idempotency.add(request.tenant, key, response)
            return response, False

    async def amend(self, request: IdempotencyRecord, response: StoredResponse) -> None:
        """Remember an answer that came later than what it created."""
        if request.key is not None:
            async with self._database.write() as work:
                amended = replace(response, fingerprint=request.fingerprint)
                await work.idempotency.replace(request.tenant, request.key, amended)

    async def stored_response(self, request: IdempotencyRecord) -> StoredResponse | None:
        """Return the first answer, to spare the work of making it again."""
        if request.key is None:
            return None
        async with self._database.read() as work:
            saved = await work.idempotency.get(request.tenant, request.key)
        if saved is not None and saved.fingerprint != request.fingerprint:
            raise IdempotencyKeyReusedError("this Idempotency-Key came with another request before")
        return saved
