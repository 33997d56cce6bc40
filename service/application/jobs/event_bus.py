"""In-process event bus: wakes the waiters of a job and caches its latest event batches."""

import asyncio
import itertools
from collections import OrderedDict, deque
from typing import Final, final

from service.domain.jobs import EventBatch

MAX_BATCHES: Final = 64
MAX_JOBS: Final = 256
MAX_WEIGHT: Final = 50_000
"""Limit for all jobs together, in epochs: about ten megabytes.

One batch of a tiny network holds 20,000 epochs.
"""

EPOCH_BYTES: Final = 200


def cache_weight(batch: EventBatch) -> int:
    """Return the number of epochs that take about as much memory as a batch.

    A boundary frame takes as much memory as thousands of epochs.
    """
    if batch.type != "boundary":
        return batch.events
    grids = (unit["grid"] for layer in batch.data["layers"] for unit in layer)
    return 1 + sum(map(len, grids)) // EPOCH_BYTES


@final
class EventBus:
    """Caches the latest event batches of jobs and wakes the waiters for the next ones.

    Subscribers that keep up share the cached batches. A subscriber that falls behind reads the
    database. Therefore no subscriber needs a queue of its own.
    """

    def __init__(self) -> None:
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._recent: OrderedDict[str, deque[EventBatch]] = OrderedDict()
        self._weight = 0
        self._remote: OrderedDict[str, None] = OrderedDict()

    def publish(self, batch: EventBatch) -> None:
        """Cache a committed batch and wake the waiters of its job."""
        recent = self._recent.get(batch.job_id)
        if recent and batch.first_id != recent[-1].last_id + 1:
            self._drop(batch.job_id)  # a batch was not published, so the cache has a gap
        self._recent.setdefault(batch.job_id, deque()).append(batch)
        self._recent.move_to_end(batch.job_id)
        self._weight += cache_weight(batch)
        self._evict(batch.job_id)
        self._wake(batch.job_id)

    def _evict(self, latest: str) -> None:
        """Evict the oldest batches until the limits hold, except for the latest batch."""
        if len(self._recent[latest]) > MAX_BATCHES:
            self._weight -= cache_weight(self._recent[latest].popleft())
        while len(self._recent) > MAX_JOBS or self._weight > MAX_WEIGHT:
            oldest = next(iter(self._recent))
            if oldest != latest:
                self._drop(oldest)
            elif len(self._recent[latest]) > 1:
                self._weight -= cache_weight(self._recent[latest].popleft())
            else:
                break

    def _drop(self, job_id: str) -> None:
        self._weight -= sum(cache_weight(batch) for batch in self._recent.pop(job_id, ()))

    def mark_remote(self, job_id: str) -> None:
        """Record that another server has written to a job's log, and drop its cached batches."""
        self._remote[job_id] = None
        self._remote.move_to_end(job_id)
        if len(self._remote) > MAX_JOBS:
            self._remote.popitem(last=False)
        self._drop(job_id)
        self._wake(job_id)

    def is_local(self, job_id: str) -> bool:
        """Return True if only this server writes to a job's log."""
        return job_id not in self._remote

    def invalidate(self) -> None:
        """Drop all cached batches, because notifications of other servers may have been missed."""
        self._recent.clear()
        self._weight = 0
        self.wake_all()

    def wake_all(self) -> None:
        """Wake all waiters even without new events, so that streams send a keep-alive or end."""
        for job_id in list(self._waiters):
            self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        for waiter in self._waiters.pop(job_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    def after(self, job_id: str, event: int) -> list[EventBatch] | None:
        """Return the batches with events after ``event``; None if some of them are not cached."""
        recent = self._recent.get(job_id)
        if not recent or recent[0].first_id > event + 1:
            return None
        later = list(itertools.takewhile(lambda batch: batch.last_id > event, reversed(recent)))
        later.reverse()
        return later

    def next(self, job_id: str) -> asyncio.Future[None]:
        """Return a future that completes when the job's waiters are woken next."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, []).append(waiter)
        return waiter
