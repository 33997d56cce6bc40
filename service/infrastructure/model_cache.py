"""Loaded versions in memory, the least recently used out first."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import final

from service.application.inference.loaded_model import LoadedModel

Key = tuple[str, ...]


@final
class LeastRecentlyUsed:
    """See `service.application.inference.inference.ModelCache`.

    Parameters
    ----------
    budget
        Bytes that all loaded versions may take together; the one in use is never put out.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._loaded: OrderedDict[Key, LoadedModel] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[LoadedModel]] = {}
        self._bytes = 0
        self._changes = 0
        self.hits = self.misses = 0

    def peek(self, key: Key) -> LoadedModel | None:
        """Return what is loaded under that key, and count it as used."""
        served = self._loaded.get(key)
        if served is not None:
            self._loaded.move_to_end(key)
            self.hits += 1
        return served

    async def get(self, key: Key, load: Callable[[], Awaitable[LoadedModel]]) -> LoadedModel:
        """Return what ``load`` gives; many first requests load once."""
        served = self.peek(key)
        if served is not None:
            return served
        task = self._loading.get(key)
        if task is None:
            task = asyncio.ensure_future(self._load(key, load))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    async def _load(self, key: Key, load: Callable[[], Awaitable[LoadedModel]]) -> LoadedModel:
        changes = self._changes
        self.misses += 1
        served = await load()
        # What changed while it was read may be old already: it answers, and is not kept.
        if changes == self._changes:
            self._loaded[key] = served
            self._bytes += served.bytes
            while self._bytes > self._budget and len(self._loaded) > 1:
                self._bytes -= self._loaded.popitem(last=False)[1].bytes
        return served

    def _finished(self, key: Key, task: asyncio.Task[LoadedModel]) -> None:
        if self._loading.get(key) is task:
            del self._loading[key]

    def drop(self, network_id: str) -> None:
        """Drop the versions of a network that changed, and of the default network.

        Another network may be the default one when a network is created or deleted.
        """
        self._changes += 1
        stale = [
            key
            for key, model in self._loaded.items()
            if model.network.id == network_id or not key[1]
        ]
        for key in stale:
            self._bytes -= self._loaded.pop(key).bytes
        self._loading.clear()  # later requests must not be given what is being read now

    def clear(self) -> None:
        """Forget everything that is loaded."""
        self._changes += 1
        self._loaded.clear()
        self._loading.clear()
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many entries are loaded."""
        return len(self._loaded)
