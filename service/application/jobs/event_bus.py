"""Tells whoever waits that a job has news, and keeps the latest of it at hand."""

import asyncio
import itertools
from collections import OrderedDict, deque
from typing import Final, final

from service.domain.jobs import EventBatch

MAX_BATCHES: Final = 64
MAX_JOBS: Final = 256
MAX_WEIGHT: Final = 50_000
"""Of all jobs together, in epochs: some ten megabytes. A tiny network has 20,000 in a record."""

EPOCH_BYTES: Final = 200


def cache_weight(batch: EventBatch) -> int:
    """Return about how many epochs take as much memory; a frame of the plane takes thousands."""
    if batch.type != "boundary":
        return batch.events
    grids = (unit["grid"] for layer in batch.data["layers"] for unit in layer)
    return 1 + sum(map(len, grids)) // EPOCH_BYTES


@final
class EventBus:
    """The latest records of jobs, and the waiters for the next.

    Subscribers that keep up are served from here, all from the same records; one that fell
    behind reads the store. So no subscriber has a queue of its own.
    """

    def __init__(self) -> None:
        self._next: dict[str, list[asyncio.Future[None]]] = {}
        self._recent: OrderedDict[str, deque[EventBatch]] = OrderedDict()
        self._weight = 0
        self._remote: OrderedDict[str, None] = OrderedDict()

    def publish(self, batch: EventBatch) -> None:
        """Keep a committed record, and wake everyone who waits for its job."""
        recent = self._recent.get(batch.job_id)
        if recent and batch.first_id != recent[-1].last_id + 1:
            self._forget(batch.job_id)  # something was not published: only the store knows
        self._recent.setdefault(batch.job_id, deque()).append(batch)
        self._recent.move_to_end(batch.job_id)
        self._weight += cache_weight(batch)
        self._make_room(batch.job_id)
        self._wake(batch.job_id)

    def _make_room(self, latest: str) -> None:
        """Forget what is oldest, but for the latest record."""
        if len(self._recent[latest]) > MAX_BATCHES:
            self._weight -= cache_weight(self._recent[latest].popleft())
        while len(self._recent) > MAX_JOBS or self._weight > MAX_WEIGHT:
            oldest = next(iter(self._recent))
            if oldest != latest:
                self._forget(oldest)
            elif len(self._recent[latest]) > 1:
                self._weight -= cache_weight(self._recent[latest].popleft())
            else:
                break

    def _forget(self, job_id: str) -> None:
        self._weight -= sum(cache_weight(batch) for batch in self._recent.pop(job_id, ()))

    def mark_remote(self, job_id: str) -> None:
        """Note that another server has written to a job's log: the store knows more than we."""
        self._remote[job_id] = None
        self._remote.move_to_end(job_id)
        if len(self._remote) > MAX_JOBS:
            self._remote.popitem(last=False)
        self._forget(job_id)
        self._wake(job_id)

    def is_local(self, job_id: str) -> bool:
        """Tell whether this server alone writes a job's log."""
        return job_id not in self._remote

    def invalidate(self) -> None:
        """Forget all records: others may have written, and it was not heard."""
        self._recent.clear()
        self._weight = 0
        self.wake_all()

    def wake_all(self) -> None:
        """Wake everyone, news or not: to show that they live, or to let them go."""
        for job_id in list(self._next):
            self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        for news in self._next.pop(job_id, ()):
            if not news.done():
                news.set_result(None)

    def after(self, job_id: str, event: int) -> list[EventBatch] | None:
        """Return the records with later events; None where only the store knows."""
        recent = self._recent.get(job_id)
        if not recent or recent[0].first_id > event + 1:
            return None
        later = list(itertools.takewhile(lambda batch: batch.last_id > event, reversed(recent)))
        later.reverse()
        return later

    def next(self, job_id: str) -> asyncio.Future[None]:
        """Return a future that is done at the job's next news."""
        news = asyncio.get_running_loop().create_future()
        self._next.setdefault(job_id, []).append(news)
        return news
