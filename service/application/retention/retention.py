"""Deletes what its retention period has expired for."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, final

from service.application.ports.database import Database
from service.application.ports.repositories import Expired
from service.domain.retention import UNFINISHED, Retention

BATCH_SIZE: Final = 100
"""Rows that one transaction deletes; other writers run between the transactions."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of data and the time after which it is deleted."""

    kind: Expired
    after: timedelta


@final
class RetentionService:
    """The use case."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database, self._rules = database, _rules(retention)

    async def collect(self, *, dry_run: bool = False) -> dict[str, int]:
        """Delete what has expired, and return the number of deleted rows by kind.

        Blobs that no row refers to any more are deleted later, by the sweep of the dispatcher.

        Parameters
        ----------
        dry_run
            Count only, delete nothing.
        """
        counts: dict[str, int] = {}
        for rule in self._rules:
            counts[rule.kind] = await self._apply(rule, dry_run=dry_run)
        return counts

    async def _apply(self, rule: Rule, *, dry_run: bool) -> int:
        if dry_run:
            async with self._database.read() as work:
                return await work.retention.count_expired(rule.kind, rule.after)
        count = 0
        while True:
            async with self._database.write() as work:
                removed = await work.retention.remove_expired(rule.kind, rule.after, BATCH_SIZE)
            count += removed
            if removed < BATCH_SIZE:
                return count


def _rules(retention: Retention) -> list[Rule]:
    """Return the rules in an order in which one makes the next one possible."""
    checkpoints = retention.checkpoints
    periods = {
        Expired.DEMO_JOBS: retention.demos,
        Expired.DEMO_NETWORKS: retention.demos,
        Expired.JOBS: retention.jobs,
        Expired.EVENTS: retention.events,
        Expired.BOUNDARY_FRAMES: retention.boundary_frames,
        Expired.CHECKPOINTS: checkpoints,
        Expired.LAST_CHECKPOINTS: None if checkpoints is None else max(checkpoints, UNFINISHED),
        Expired.INLINE_DATASETS: retention.inline_datasets,
    }
    return [Rule(kind, after) for kind, after in periods.items() if after is not None]
