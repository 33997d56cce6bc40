"""Creating once: the first answer to a key is stored with what it created."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

from service.application.ports import SavedAnswer, Store, Work
from service.domain.errors import Conflict, KeyReused


@dataclass(frozen=True, slots=True)
class Request:
    """A creating request: whose, under which key, and the digest of what it asks for."""

    owner: str
    key: str | None
    fingerprint: str


@final
class Once:
    """Runs creations in one transaction with the memory of their answers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._under_way: set[tuple[str, str]] = set()

    async def __call__(
        self, request: Request, create: Callable[[Work], Awaitable[SavedAnswer]]
    ) -> tuple[SavedAnswer, bool]:
        """Return the answer, and whether it is the first one again.

        Raises
        ------
        KeyReused
            When the key came with another request before.
        Conflict
            When a request with this key is still running.
        """
        with self.alone(request):
            return await self.keyed(request, create)

    @contextmanager
    def alone(self, request: Request) -> Iterator[None]:
        """Let nobody else come with the same key meanwhile."""
        if request.key is None:
            yield
            return
        place = (request.owner, request.key)
        if place in self._under_way:
            problem = "a request with this Idempotency-Key is still running"
            raise Conflict(problem, code="idempotency_key_in_use")
        self._under_way.add(place)
        try:
            yield
        finally:
            self._under_way.discard(place)

    async def keyed(
        self, request: Request, create: Callable[[Work], Awaitable[SavedAnswer]]
    ) -> tuple[SavedAnswer, bool]:
        """As calling does, for one who is `alone` already."""
        key = request.key
        async with self._store.write() as work:
            if key is None:
                return await create(work), False
            saved = await work.answers.get(request.owner, key)
            if saved is not None:
                if saved.fingerprint != request.fingerprint:
                    problem = "this Idempotency-Key came with another request before"
                    raise KeyReused(problem)
                return saved, True
            answer = replace(await create(work), fingerprint=request.fingerprint)
            await work.answers.add(request.owner, key, answer)
            return answer, False

    async def amend(self, request: Request, answer: SavedAnswer) -> None:
        """Remember an answer that came later than what it created."""
        if request.key is not None:
            async with self._store.write() as work:
                amended = replace(answer, fingerprint=request.fingerprint)
                await work.answers.replace(request.owner, request.key, amended)

    async def replay(self, request: Request) -> SavedAnswer | None:
        """Return the first answer, to spare the work of making it again."""
        if request.key is None:
            return None
        async with self._store.read() as work:
            saved = await work.answers.get(request.owner, request.key)
        if saved is not None and saved.fingerprint != request.fingerprint:
            raise KeyReused("this Idempotency-Key came with another request before")
        return saved
