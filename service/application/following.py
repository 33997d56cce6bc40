"""Following jobs: their records as they come, for however many subscribers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final, final

from service.application.feed import Feed
from service.application.jobs import read_job
from service.application.ports import Store
from service.domain.jobs import Job, Record, merged

MOST_REPLAYS: Final = 2
"""Logs that are read at once; a crowd of subscribers must not take the store from the others."""


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
        self._replays = asyncio.Semaphore(MOST_REPLAYS)
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
            async with self._replays, self._store.read() as work:
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
        found = await self.records(job_id, after)
        slow = job_id in caught_up and self._feed.knows(job_id)
        return [merged(record, after) for record in found] if slow else found

    async def follow(self, cursors: dict[str, int]) -> AsyncIterator[Record | None]:
        """Yield the records of jobs after each cursor, as they come, until all have ended.

        Who reads slower than records come is given the last of each run of epochs, and every
        other event. None is yielded when the feed pulses and there is no news.

        Parameters
        ----------
        cursors
            The last event that is known of each job, of which none may be its last of all; moved
            on as records are yielded.
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
            for record in fresh:
                yield record
                cursors[record.job_id] = record.last
            following -= {record.job_id for record in fresh if record.type == "end"}
            if fresh:
                continue
            await asyncio.wait(
                [news[job_id] for job_id in following], return_when=asyncio.FIRST_COMPLETED
            )
            if not any(self._feed.after(job_id, cursors[job_id]) for job_id in following):
                yield None

    async def _shared(self, key: tuple[Any, ...], read: Callable[[], Awaitable[Any]]) -> Any:
        """Return what is read under that key; those who ask meanwhile wait for the same."""
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(read())
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)
