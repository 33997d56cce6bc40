"""Tells whoever waits that a job has news, and keeps the latest of it at hand."""

import asyncio
from collections import OrderedDict, defaultdict, deque
from typing import Final, final

from service.domain.jobs import Record

RECORDS_KEPT: Final = 64
JOBS_KEPT: Final = 256


@final
class Feed:
    """The latest records of jobs, and the waiters for the next.

    Subscribers that keep up are served from here, all from the same records; one that fell
    behind reads the store. So no subscriber has a queue of its own.
    """

    def __init__(self) -> None:
        self._waiters: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._recent: OrderedDict[str, deque[Record]] = OrderedDict()

    def publish(self, record: Record) -> None:
        """Keep a committed record, and wake everyone who waits for its job."""
        recent = self._recent.setdefault(record.job_id, deque(maxlen=RECORDS_KEPT))
        if recent and record.first != recent[-1].last + 1:
            recent.clear()  # something was committed and not published: only the store knows
        recent.append(record)
        self._recent.move_to_end(record.job_id)
        if len(self._recent) > JOBS_KEPT:
            self._recent.popitem(last=False)
        for waiter in self._waiters.pop(record.job_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    def after(self, job_id: str, event: int) -> list[Record] | None:
        """Return the records with later events; None where only the store knows."""
        recent = self._recent.get(job_id)
        if not recent or recent[0].first > event + 1:
            return None
        return [record for record in recent if record.last > event]

    def subscribe(self, job_id: str) -> asyncio.Future[None]:
        """Return a future that is done at the job's next news."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[job_id].add(waiter)
        return waiter

    def unsubscribe(self, job_id: str, waiter: asyncio.Future[None]) -> None:
        """Forget a waiter that no longer waits."""
        waiters = self._waiters.get(job_id)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[job_id]
        waiter.cancel()
