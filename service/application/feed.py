"""Tells whoever waits that a job has news, and keeps the latest of it at hand."""

import asyncio
from collections import OrderedDict, deque
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
        self._next: dict[str, asyncio.Future[None]] = {}
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
        self._wake(record.job_id)

    def pulse(self) -> None:
        """Wake everyone, news or not: to show that they live, or to let them go."""
        for job_id in list(self._next):
            self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        waited_for = self._next.pop(job_id, None)
        if waited_for is not None and not waited_for.done():
            waited_for.set_result(None)

    def after(self, job_id: str, event: int) -> list[Record] | None:
        """Return the records with later events; None where only the store knows."""
        recent = self._recent.get(job_id)
        if not recent or recent[0].first > event + 1:
            return None
        return [record for record in recent if record.last > event]

    def next(self, job_id: str) -> asyncio.Future[None]:
        """Return what is done at the job's next news; all who wait share it, so shield it."""
        waited_for = self._next.get(job_id)
        if waited_for is None:
            waited_for = asyncio.get_running_loop().create_future()
            self._next[job_id] = waited_for
        return waited_for
