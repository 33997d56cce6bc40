"""The template of limited processes, with tasks that a parser must not be able to do."""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.domain.errors import InvalidRequestError
from service.infrastructure.limited import template
from service.infrastructure.limited.tasks import TASKS

Result = tuple[dict[str, Any], bytes]


def allocate(_: Mapping[str, Any], __: bytes) -> Result:
    """Allocate until there is no memory."""
    blocks = []
    while True:
        blocks.append(bytearray(64 << 20))


def loop(_: Mapping[str, Any], __: bytes) -> Result:
    """Use CPU time for ever."""
    while True:
        pass


def sleep(_: Mapping[str, Any], __: bytes) -> Result:
    """Do nothing for a moment."""
    time.sleep(0.5)
    return {}, b""


def crash(_: Mapping[str, Any], __: bytes) -> Result:
    """End the process."""
    os.abort()


def look_around(arguments: Mapping[str, Any], data: bytes) -> Result:
    """Report the environment, files and directory of the process."""
    writable = True
    try:
        Path("file").write_bytes(b"x")
    except OSError:
        writable = False
    return {
        "environment": sorted(os.environ),
        "files": [number for number in range(1024) if _is_open(number)],
        "directory": [str(path) for path in Path().iterdir()],
        "writable": writable,
        "arguments": dict(arguments),
        "socket": socket.socket(fileno=os.dup(3)).family,
    }, data[::-1]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def refuse(_: Mapping[str, Any], __: bytes) -> Result:
    """Reject the data."""
    raise InvalidRequestError.at("/x", "bad", "it is bad")


if __name__ == "__main__":
    for task in (allocate, loop, sleep, crash, look_around, refuse):
        TASKS[task.__name__] = task
    template.main()
