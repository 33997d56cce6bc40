"""Tells whoever waits that a job has news, and keeps the latest of it at hand."""

import asyncio
import itertools
from collections import OrderedDict, deque
from typing import Final, final

from service.domain.jobs import Record

RECORDS_KEPT: Final = 64
JOBS_KEPT: Final = 256
WEIGHT_KEPT: Final = 50_000
"""Of all jobs together, in epochs: some ten megabytes. A tiny network has 20,000 in a record."""

EPOCH_BYTES: Final = 200


def weight_of(record: Record) -> int:
    """Return about how many epochs take as much memory; a frame of the plane takes thousands."""
    if record.type != "boundary":
        return record.events
    grids = (unit["grid"] for layer in record.data["layers"] for unit in layer)
    return 1 + sum(map(len, grids)) // EPOCH_BYTES


@final
class Feed:
    """The latest records of jobs, and the waiters for the next.

    Subscribers that keep up are served from here, all from the same records; one that fell
    behind reads the store. So no subscriber has a queue of its own.
    """

    def __init__(self) -> None:
        self._next: dict[str, list[asyncio.Future[None]]] = {}
        self._recent: OrderedDict[str, deque[Record]] = OrderedDict()
        self._weight = 0
        self._elsewhere: OrderedDict[str, None] = OrderedDict()

    def publish(self, record: Record) -> None:
        """Keep a committed record, and wake everyone who waits for its job."""
        recent = self._recent.get(record.job_id)
        if recent and record.first != recent[-1].last + 1:
            self._forget(record.job_id)  # something was not published: only the store knows
        self._recent.setdefault(record.job_id, deque()).append(record)
        self._recent.move_to_end(record.job_id)
        self._weight += weight_of(record)
        self._make_room(record.job_id)
        self._wake(record.job_id)

    def _make_room(self, latest: str) -> None:
        """Forget what is oldest, but for the latest record."""
        if len(self._recent[latest]) > RECORDS_KEPT:
            self._weight -= weight_of(self._recent[latest].popleft())
        while len(self._recent) > JOBS_KEPT or self._weight > WEIGHT_KEPT:
            oldest = next(iter(self._recent))
            if oldest != latest:
                self._forget(oldest)
            elif len(self._recent[latest]) > 1:
                self._weight -= weight_of(self._recent[latest].popleft())
            else:
                break

    def _forget(self, job_id: str) -> None:
        self._weight -= sum(weight_of(record) for record in self._recent.pop(job_id, ()))

    def elsewhere(self, job_id: str) -> None:
        """Note that another server has written to a job's log: the store knows more than we."""
        self._elsewhere[job_id] = None
        self._elsewhere.move_to_end(job_id)
        if len(self._elsewhere) > JOBS_KEPT:
            self._elsewhere.popitem(last=False)
        self._forget(job_id)
        self._wake(job_id)

    def knows(self, job_id: str) -> bool:
        """Tell whether this server alone writes a job's log."""
        return job_id not in self._elsewhere

    def missed(self) -> None:
        """Forget all records: others may have written, and it was not heard."""
        self._recent.clear()
        self._weight = 0
        self.pulse()

    def pulse(self) -> None:
        """Wake everyone, news or not: to show that they live, or to let them go."""
        for job_id in list(self._next):
            self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        for news in self._next.pop(job_id, ()):
            if not news.done():
                news.set_result(None)

    def after(self, job_id: str, event: int) -> list[Record] | None:
        """Return the records with later events; None where only the store knows."""
        recent = self._recent.get(job_id)
        if not recent or recent[0].first > event + 1:
            return None
        later = list(itertools.takewhile(lambda record: record.last > event, reversed(recent)))
        later.reverse()
        return later

    def next(self, job_id: str) -> asyncio.Future[None]:
        """Return a future that is done at the job's next news."""
        news = asyncio.get_running_loop().create_future()
        self._next.setdefault(job_id, []).append(news)
        return news
