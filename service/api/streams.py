"""Sending on an answer that streams without waking the task that streams it.

A task costs several times what the sending costs, and a crowd of subscribers is told the same.
"""

from collections.abc import Callable
from typing import Any, Final

from starlette.types import Scope

Push = Callable[[bytes | memoryview], bool]
"""Send a part of an answer at once; false where only its task can, which waits for its turn."""

STREAM: Final = "neurond.stream"
"""What makes a stream of an answer, in the `extensions` of its request's scope."""


def push_of(scope: Scope) -> Push:
    """Return how to push parts of the answer to a request, of which little is held from now on."""
    offered: Any = scope.get("extensions", {}).get(STREAM)
    push: Push = offered() if offered else _never
    return push


def _never(_part: bytes | memoryview) -> bool:
    return False
