"""Background tasks that run from the start of a server to its shutdown."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from service.application.access.api_keys import Authenticator
from service.application.jobs.dispatcher import Dispatcher
from service.application.jobs.event_bus import EventBus
from service.application.ports.database import Database
from service.application.ports.metrics import Metrics
from service.application.retention.retention import RetentionService
from service.domain.errors import UnavailableError
from service.infrastructure.disk_reserve import DiskReserve
from service.infrastructure.model_cache import LeastRecentlyUsed

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS: Final = 15.0
REFRESH_SECONDS: Final = 0.5
LAG_SAMPLE_SECONDS: Final = 0.25
REFILL_SECONDS: Final = 30.0
STORAGE_SECONDS: Final = 60.0
COLLECTION_HOUR: Final = 3
"""Hour (UTC) at which expired data is deleted."""


async def wake_streams(event_bus: EventBus, closing: asyncio.Event) -> None:
    """Wake all event streams for keepalives, and once more when the server stops."""
    while not closing.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), KEEPALIVE_SECONDS)
        event_bus.wake_all()


async def measure_lag(metrics: Metrics) -> None:
    """Record the lag of the event loop."""
    loop = asyncio.get_running_loop()
    while True:
        expected = loop.time() + LAG_SAMPLE_SECONDS
        await asyncio.sleep(LAG_SAMPLE_SECONDS)
        metrics.lag(loop.time() - expected)


async def refill(reserve: DiskReserve) -> None:
    """Create the reserve for a full disk, and again when it was used and there is space."""
    while True:
        await asyncio.to_thread(reserve.refill)
        await asyncio.sleep(REFILL_SECONDS)


async def collect_nightly(retention: RetentionService) -> None:
    """Delete what has expired, every night at `COLLECTION_HOUR`."""
    while True:
        now = datetime.now(UTC)
        next_time = now.replace(hour=COLLECTION_HOUR, minute=0, second=0, microsecond=0)
        if next_time <= now:
            next_time += timedelta(days=1)
        await asyncio.sleep((next_time - now).total_seconds())
        try:
            counts = await retention.collect()
            log.info("deleted what has expired: %s", counts)
        except UnavailableError as error:  # the next night deletes more
            log.warning("cannot delete what has expired: %s", error.detail)
        except Exception:  # top frame: without the task nothing would be deleted
            log.exception("failed to delete what has expired")


async def measure_storage(database: Database, stored_bytes: dict[str, float]) -> None:
    """Update the stored bytes by kind."""
    while True:
        with contextlib.suppress(UnavailableError):
            async with database.read() as work:
                usage = await work.retention.usage(None)
                size = await work.retention.database_bytes()
            stored_bytes |= {
                "weights": float(usage.weights),
                "datasets": float(usage.rows),
                "checkpoints": float(usage.checkpoints),
                "database": float(size),
            }
        await asyncio.sleep(STORAGE_SECONDS)


async def refresh_keys(authenticator: Authenticator) -> None:
    """Reload the keys, because another process may have created or revoked some."""
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        try:
            await authenticator.refresh()
        except UnavailableError:  # the loaded keys stay valid
            pass
        except Exception:  # top frame: if the task ended, revoked keys would stay valid
            log.exception("failed to reload the API keys")


def notification_handlers(
    cache: LeastRecentlyUsed, dispatcher: Dispatcher, event_bus: EventBus
) -> tuple[Callable[[str, str], None], Callable[[], None]]:
    """Return a handler of notifications from other servers, and one of possibly missed ones."""

    def on_notification(kind: str, reference: str) -> None:
        if kind == "network":
            cache.drop(reference)
        elif kind == "checkpoint":
            dispatcher.checkpoint(reference)
        else:
            event_bus.mark_remote(reference)
            dispatcher.on_notification(reference)

    def on_missed() -> None:
        cache.clear()
        event_bus.invalidate()
        dispatcher.wake()

    return on_notification, on_missed
