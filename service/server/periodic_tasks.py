"""Background tasks that run from the start of a server to its shutdown."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from service.application.access.api_keys import Authenticator
from service.application.jobs.dispatcher import Dispatcher
from service.application.jobs.event_bus import EventBus
from service.application.ports.metrics import Metrics
from service.domain.errors import UnavailableError
from service.infrastructure.disk_reserve import DiskReserve
from service.infrastructure.model_cache import LeastRecentlyUsed

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS: Final = 15.0
REFRESH_SECONDS: Final = 0.5
LAG_SAMPLE_SECONDS: Final = 0.25
REFILL_SECONDS: Final = 30.0


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
