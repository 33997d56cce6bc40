"""An LRU cache of loaded network versions."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import final

from service.application.inference.loaded_model import LoadedModel

Key = tuple[str, ...]


@final
class LeastRecentlyUsed:
    """Implements `service.application.ports.models.ModelCache`.

    Parameters
    ----------
    budget
        Maximum bytes of all loaded versions together. The most recent one is never evicted.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._loaded: OrderedDict[Key, LoadedModel] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[LoadedModel]] = {}
        self._bytes = 0
        self._changes = 0
        self.hits = self.misses = 0

    def peek(self, key: Key) -> LoadedModel | None:
        """Return the model loaded under that key, or None, and mark it as used."""
        model = self._loaded.get(key)
        if model is not None:
            self._loaded.move_to_end(key)
            self.hits += 1
        return model

    async def get(self, key: Key, load: Callable[[], Awaitable[LoadedModel]]) -> LoadedModel:
        """Return the model under that key; concurrent calls for a missing one load it once."""
        model = self.peek(key)
        if model is not None:
            return model
        task = self._loading.get(key)
        if task is None:
            task = asyncio.ensure_future(self._load(key, load))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._on_load_end(key, done))
        return await asyncio.shield(task)

    async def _load(self, key: Key, load: Callable[[], Awaitable[LoadedModel]]) -> LoadedModel:
        changes = self._changes
        self.misses += 1
        model = await load()
        # If anything was dropped during the load, the model may be stale: do not cache it.
        if changes == self._changes:
            self._loaded[key] = model
            self._bytes += model.bytes
            while self._bytes > self._budget and len(self._loaded) > 1:
                self._bytes -= self._loaded.popitem(last=False)[1].bytes
        return model

    def _on_load_end(self, key: Key, task: asyncio.Task[LoadedModel]) -> None:
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
        self._loading.clear()  # later requests must not get a version that is being loaded now

    def clear(self) -> None:
        """Evict all versions."""
        self._changes += 1
        self._loaded.clear()
        self._loading.clear()
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of loaded versions."""
        return len(self._loaded)
