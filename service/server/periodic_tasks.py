"""What goes on beside requests, from a server's start to its end."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from service.application.access.api_keys import Authenticator
from service.application.jobs.dispatcher import Dispatcher
from service.application.jobs.event_bus import EventBus
from service.application.ports import Metrics
from service.domain.errors import UnavailableError
from service.infrastructure.model_cache import LeastRecentlyUsed

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS: Final = 15.0
REFRESH_SECONDS: Final = 0.5
LAG_SAMPLE_SECONDS: Final = 0.25


async def wake_streams(event_bus: EventBus, closing: asyncio.Event) -> None:
    """Let streams show that they live, and let all who wait go when the server stops."""
    while not closing.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), KEEPALIVE_SECONDS)
        event_bus.wake_all()


async def watch(metrics: Metrics) -> None:
    """Note how late the event loop is."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SAMPLE_SECONDS
        await asyncio.sleep(LAG_SAMPLE_SECONDS)
        metrics.lag(loop.time() - due)


async def refresh(access: Authenticator) -> None:
    """See keys that another process made or revoked."""
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        try:
            await access.refresh()
        except UnavailableError:  # what is known still holds
            pass
        except Exception:  # the top frame: a revoked key must not stay valid for a fault of ours
            log.exception("the keys cannot be read")


def other_servers(
    cache: LeastRecentlyUsed, dispatcher: Dispatcher, event_bus: EventBus
) -> tuple[Callable[[str, str], None], Callable[[], None]]:
    """Return what acts on the word of another server, and on words that may have been missed."""

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
