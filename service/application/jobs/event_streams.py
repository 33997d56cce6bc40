"""Following jobs: their records as they come, for however many subscribers."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final, final

from service.application.jobs.event_bus import MAX_WEIGHT, EventBus, cache_weight
from service.application.jobs.jobs import read_job
from service.application.ports import Database
from service.domain.jobs import EventBatch, Job, merged

MAX_REPLAYED_RECORDS: Final = 8
"""Records that one subscriber that replays a log receives in its turn."""

MAX_REPLAYED_PARTS: Final = 16
"""Parts of logs in memory for several subscribers that replay the same."""

REPLAY_PAUSE_SECONDS: Final = 0.001
"""How long other requests come first between the turns of several subscribers that replay."""


@final
class EventStreams:
    """What subscribers are given.

    Parameters
    ----------
    closing
        Set when the server was told to stop.
    """

    def __init__(self, database: Database, event_bus: EventBus, closing: asyncio.Event) -> None:
        self._database, self._event_bus, self._closing = database, event_bus, closing
        self._replays, self._replay_turn = 0, asyncio.Lock()
        self._replayed: OrderedDict[tuple[str, int], list[EventBatch]] = OrderedDict()
        self._reading: dict[tuple[Any, ...], asyncio.Future[Any]] = {}

    async def get_job(self, tenant: str, job_id: str) -> Job:
        """Return a job; those who ask while it is being read share what was read."""
        read = partial(read_job, self._database, tenant, job_id)
        found: Job = await self._shared((tenant, job_id), read)
        return found

    async def batches(self, job_id: str, after: int, limit: int = 100) -> list[EventBatch]:
        """Return records of the log that hold events later than ``after``, the first ones."""
        recent = self._event_bus.after(job_id, after)
        if recent is not None:
            return recent[:limit]

        async def read() -> list[EventBatch]:
            async with self._database.read() as work:
                return await work.job_events.after(job_id, after, limit)

        # A crowd that comes at once asks for the same; the log never changes what it told.
        found: list[EventBatch] = await self._shared((job_id, after, limit), read)
        return found

    async def _news(self, job_id: str, after: int, caught_up: set[str]) -> list[EventBatch]:
        """Return later records; to one who had caught up and fell behind, epochs merged."""
        recent = self._event_bus.after(job_id, after)
        if recent is not None:
            caught_up.add(job_id)
            return recent
        found = await self._replay(job_id, after)
        slow = job_id in caught_up and self._event_bus.is_local(job_id)
        return [merged(batch, after) for batch in found] if slow else found

    async def _replay(self, job_id: str, after: int) -> list[EventBatch]:
        """Return the next stored records, one subscriber at a time."""
        self._replays += 1
        try:
            async with self._replay_turn:
                if self._replays > 1:
                    await asyncio.sleep(REPLAY_PAUSE_SECONDS)
                found = self._replayed.get((job_id, after))
                if found is None:
                    found = await self.batches(job_id, after, MAX_REPLAYED_RECORDS)
                    self._cache_replayed(job_id, after, found)
                return found
        finally:
            self._replays -= 1

    def _cache_replayed(self, job_id: str, after: int, batches: list[EventBatch]) -> None:
        """Keep a full part of a log, which never changes, for the next subscribers."""
        if len(batches) == MAX_REPLAYED_RECORDS:
            self._replayed[job_id, after] = batches
            while len(self._replayed) > MAX_REPLAYED_PARTS or self._cached_weight() > MAX_WEIGHT:
                self._replayed.popitem(last=False)

    def _cached_weight(self) -> int:
        return sum(cache_weight(batch) for part in self._replayed.values() for batch in part)

    async def follow(self, cursors: dict[str, int]) -> AsyncIterator[list[EventBatch]]:
        """Yield the records of jobs after each cursor, as they come, until all have ended.

        Who reads slower than records come is given the last of each run of epochs, and every
        other event. No records are yielded when the feed pulses and there is no news.

        Parameters
        ----------
        cursors
            The last event that is known of each job, of which none may be its last of all; moved
            on after records were yielded.
        """
        following, caught_up = set(cursors), set[str]()
        news: dict[str, asyncio.Future[None]] = {}
        while following and not self._closing.is_set():
            for job_id in following:
                if job_id not in news or news[job_id].done():
                    news[job_id] = self._event_bus.next(job_id)
            fresh = [
                batch
                for job_id in following
                for batch in await self._news(job_id, cursors[job_id], caught_up)
            ]
            if fresh:
                yield fresh
                cursors.update({batch.job_id: batch.last_id for batch in fresh})
                following -= {batch.job_id for batch in fresh if batch.type == "end"}
                continue
            waiting = [news[job_id] for job_id in following]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not any(self._event_bus.after(job_id, cursors[job_id]) for job_id in following):
                yield []

    async def _shared(self, key: tuple[Any, ...], read: Callable[[], Awaitable[Any]]) -> Any:
        """Return what is read under that key; those who ask meanwhile wait for the same."""
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(read())
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)
