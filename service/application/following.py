"""Following jobs: their records as they come, for however many subscribers."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final, final

from service.application.feed import WEIGHT_KEPT, Feed, weight_of
from service.application.jobs import read_job
from service.application.ports import Store
from service.domain.jobs import Job, Record, merged

MAX_REPLAYED_RECORDS: Final = 8
"""Records that one subscriber that replays a log receives in its turn."""

MAX_REPLAYED_PARTS: Final = 16
"""Parts of logs in memory for several subscribers that replay the same."""

REPLAY_PAUSE_SECONDS: Final = 0.001
"""How long other requests come first between the turns of several subscribers that replay."""


@final
class Following:
    """What subscribers are given.

    Parameters
    ----------
    closing
        Set when the server was told to stop.
    """

    def __init__(self, store: Store, feed: Feed, closing: asyncio.Event) -> None:
        self._store, self._feed, self._closing = store, feed, closing
        self._replays, self._replay_turn = 0, asyncio.Lock()
        self._replayed: OrderedDict[tuple[str, int], list[Record]] = OrderedDict()
        self._reading: dict[tuple[Any, ...], asyncio.Future[Any]] = {}

    async def glance(self, owner: str, job_id: str) -> Job:
        """Return a job; those who ask while it is being read share what was read."""
        read = partial(read_job, self._store, owner, job_id)
        found: Job = await self._shared((owner, job_id), read)
        return found

    async def records(self, job_id: str, after: int, limit: int = 100) -> list[Record]:
        """Return records of the log that hold events later than ``after``, the first ones."""
        recent = self._feed.after(job_id, after)
        if recent is not None:
            return recent[:limit]

        async def read() -> list[Record]:
            async with self._store.read() as work:
                return await work.log.after(job_id, after, limit)

        # A crowd that comes at once asks for the same; the log never changes what it told.
        found: list[Record] = await self._shared((job_id, after, limit), read)
        return found

    async def _news(self, job_id: str, after: int, caught_up: set[str]) -> list[Record]:
        """Return later records; to one who had caught up and fell behind, epochs merged."""
        recent = self._feed.after(job_id, after)
        if recent is not None:
            caught_up.add(job_id)
            return recent
        found = await self._replay(job_id, after)
        slow = job_id in caught_up and self._feed.knows(job_id)
        return [merged(record, after) for record in found] if slow else found

    async def _replay(self, job_id: str, after: int) -> list[Record]:
        """Return the next stored records, one subscriber at a time."""
        self._replays += 1
        try:
            async with self._replay_turn:
                if self._replays > 1:
                    await asyncio.sleep(REPLAY_PAUSE_SECONDS)
                found = self._replayed.get((job_id, after))
                if found is None:
                    found = await self.records(job_id, after, MAX_REPLAYED_RECORDS)
                    self._cache_replayed(job_id, after, found)
                return found
        finally:
            self._replays -= 1

    def _cache_replayed(self, job_id: str, after: int, records: list[Record]) -> None:
        """Keep a full part of a log, which never changes, for the next subscribers."""
        if len(records) == MAX_REPLAYED_RECORDS:
            self._replayed[job_id, after] = records
            while len(self._replayed) > MAX_REPLAYED_PARTS or self._cached_weight() > WEIGHT_KEPT:
                self._replayed.popitem(last=False)

    def _cached_weight(self) -> int:
        return sum(weight_of(record) for part in self._replayed.values() for record in part)

    async def follow(self, cursors: dict[str, int]) -> AsyncIterator[list[Record]]:
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
                    news[job_id] = self._feed.next(job_id)
            fresh = [
                record
                for job_id in following
                for record in await self._news(job_id, cursors[job_id], caught_up)
            ]
            if fresh:
                yield fresh
                cursors.update({record.job_id: record.last for record in fresh})
                following -= {record.job_id for record in fresh if record.type == "end"}
                continue
            waiting = [news[job_id] for job_id in following]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not any(self._feed.after(job_id, cursors[job_id]) for job_id in following):
                yield []

    async def _shared(self, key: tuple[Any, ...], read: Callable[[], Awaitable[Any]]) -> Any:
        """Return what is read under that key; those who ask meanwhile wait for the same."""
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(read())
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)
