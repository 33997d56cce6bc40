"""Wait for a condition, with a timeout."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

TIMEOUT_SECONDS = 30.0
INTERVAL_SECONDS = 0.01


async def wait_until(condition: Callable[[], Any], timeout: float = TIMEOUT_SECONDS) -> Any:  # noqa: ASYNC109 - the test names the limit
    """Return the first true result of `condition`, which may be a coroutine function.

    Raises
    ------
    TimeoutError
        If no result is true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        _check(deadline, timeout)
        await asyncio.sleep(INTERVAL_SECONDS)


def block_until(condition: Callable[[], Any], timeout: float = TIMEOUT_SECONDS) -> Any:
    """Return the first true result of `condition`, for tests without an event loop.

    Raises
    ------
    TimeoutError
        If no result is true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        _check(deadline, timeout)
        time.sleep(INTERVAL_SECONDS)
    return result


def _check(deadline: float, timeout: float) -> None:
    if time.monotonic() >= deadline:
        raise TimeoutError(f"the condition did not become true within {timeout:g} seconds")
