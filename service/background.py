"""What goes on beside requests, from a server's start to its end."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from service.api.dependencies import Metrics
from service.application.access import Access
from service.application.dispatcher import Dispatcher
from service.application.feed import Feed
from service.domain.errors import Unavailable
from service.infrastructure.model_cache import LeastRecentlyUsed

log = logging.getLogger(__name__)

PULSE_SECONDS: Final = 15.0
REFRESH_SECONDS: Final = 0.5
WATCH_SECONDS: Final = 0.25


async def pulse(feed: Feed, closing: asyncio.Event) -> None:
    """Let streams show that they live, and let all who wait go when the server stops."""
    while not closing.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), PULSE_SECONDS)
        feed.pulse()


async def watch(metrics: Metrics) -> None:
    """Note how late the event loop is."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + WATCH_SECONDS
        await asyncio.sleep(WATCH_SECONDS)
        metrics.lag(loop.time() - due)


async def refresh(access: Access) -> None:
    """See keys that another process made or revoked."""
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        try:
            await access.refresh()
        except Unavailable:  # what is known still holds
            pass
        except Exception:  # the top frame: a revoked key must not stay valid for a fault of ours
            log.exception("the keys cannot be read")


def other_servers(
    cache: LeastRecentlyUsed, dispatcher: Dispatcher, feed: Feed
) -> tuple[Callable[[str, str], None], Callable[[], None]]:
    """Return what acts on the word of another server, and on words that may have been missed."""

    def heard(kind: str, reference: str) -> None:
        if kind == "network":
            cache.drop(reference)
        elif kind == "checkpoint":
            dispatcher.checkpoint(reference)
        else:
            feed.elsewhere(reference)
            dispatcher.heard(reference)

    def missed() -> None:
        cache.clear()
        feed.missed()
        dispatcher.wake()

    return heard, missed
