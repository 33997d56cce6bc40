"""Event streams of jobs, replayed and live, for any number of subscribers."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final, final

from service.application.jobs.event_bus import MAX_WEIGHT, EventBus, cache_weight
from service.application.jobs.lookup import read_job
from service.application.ports.database import Database
from service.domain.jobs import EventBatch, Job, merged

MAX_REPLAYED_BATCHES: Final = 8
"""Batches that a subscriber that replays a log receives in one turn."""

MAX_REPLAYED_SECTIONS: Final = 16
"""Sections of logs that are cached for other subscribers that replay the same log."""

REPLAY_PAUSE_SECONDS: Final = 0.001
"""Pause between the turns of several subscribers that replay, so that requests run first."""


@final
class EventStreams:
    """Reads the events of jobs for their subscribers.

    Parameters
    ----------
    closing
        Set when the server starts to shut down.
    """

    def __init__(self, database: Database, event_bus: EventBus, closing: asyncio.Event) -> None:
        self._database, self._event_bus, self._closing = database, event_bus, closing
        self._replays, self._replay_turn = 0, asyncio.Lock()
        self._replayed: OrderedDict[tuple[str, int], list[EventBatch]] = OrderedDict()
        self._reading: dict[tuple[Any, ...], asyncio.Future[Any]] = {}

    async def get_job(self, tenant: str, job_id: str) -> Job:
        """Return a job; concurrent callers share one read."""
        read = partial(read_job, self._database, tenant, job_id)
        job: Job = await self._share((tenant, job_id), read)
        return job

    async def batches(self, job_id: str, after: int, limit: int = 100) -> list[EventBatch]:
        """Return the first ``limit`` batches of the log that hold events after ``after``."""
        recent = self._event_bus.after(job_id, after)
        if recent is not None:
            return recent[:limit]

        async def read() -> list[EventBatch]:
            async with self._database.read() as work:
                return await work.job_events.after(job_id, after, limit)

        # Subscribers that connect together read the same batches; stored batches never change.
        stored: list[EventBatch] = await self._share((job_id, after, limit), read)
        return stored

    async def _new_batches(self, job_id: str, after: int, caught_up: set[str]) -> list[EventBatch]:
        """Return later batches; merge epochs for a subscriber that caught up and fell behind."""
        recent = self._event_bus.after(job_id, after)
        if recent is not None:
            caught_up.add(job_id)
            return recent
        replayed = await self._replay(job_id, after)
        slow = job_id in caught_up and self._event_bus.is_local(job_id)
        return [merged(batch, after) for batch in replayed] if slow else replayed

    async def _replay(self, job_id: str, after: int) -> list[EventBatch]:
        """Return the next stored batches, for one subscriber at a time."""
        self._replays += 1
        try:
            async with self._replay_turn:
                if self._replays > 1:
                    await asyncio.sleep(REPLAY_PAUSE_SECONDS)
                batches = self._replayed.get((job_id, after))
                if batches is None:
                    batches = await self.batches(job_id, after, MAX_REPLAYED_BATCHES)
                    self._cache_replayed(job_id, after, batches)
                return batches
        finally:
            self._replays -= 1

    def _cache_replayed(self, job_id: str, after: int, batches: list[EventBatch]) -> None:
        """Cache a full section of a log, which never changes, for the next subscribers."""
        if len(batches) == MAX_REPLAYED_BATCHES:
            self._replayed[job_id, after] = batches
            while len(self._replayed) > MAX_REPLAYED_SECTIONS or self._cached_weight() > MAX_WEIGHT:
                self._replayed.popitem(last=False)

    def _cached_weight(self) -> int:
        return sum(cache_weight(batch) for section in self._replayed.values() for batch in section)

    async def follow(self, cursors: dict[str, int]) -> AsyncIterator[list[EventBatch]]:
        """Yield the event batches of jobs after each cursor as they arrive, until all jobs end.

        A subscriber that falls behind receives the last epoch of each batch, and every other
        event. The list is empty if the event bus wakes its waiters without new events.

        Parameters
        ----------
        cursors
            The last known event id of each job, which must not be the id of the job's final event.
            Updated after each yield.
        """
        following, caught_up = set(cursors), set[str]()
        wakeups: dict[str, asyncio.Future[None]] = {}
        while following and not self._closing.is_set():
            for job_id in following:
                if job_id not in wakeups or wakeups[job_id].done():
                    wakeups[job_id] = self._event_bus.next(job_id)
            fresh = [
                batch
                for job_id in following
                for batch in await self._new_batches(job_id, cursors[job_id], caught_up)
            ]
            if fresh:
                yield fresh
                cursors.update({batch.job_id: batch.last_id for batch in fresh})
                following -= {batch.job_id for batch in fresh if batch.type == "end"}
                continue
            waiting = [wakeups[job_id] for job_id in following]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not any(self._event_bus.after(job_id, cursors[job_id]) for job_id in following):
                yield []

    async def _share(self, key: tuple[Any, ...], read: Callable[[], Awaitable[Any]]) -> Any:
        """Return the result of ``read``; concurrent callers with the same key share one call."""
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(read())
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)
