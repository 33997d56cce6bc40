"""The template: waits for sockets from the server, and forks a process for each.

Over its socket a process receives a frame with a task and its data, and sends one with the result.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from service.domain.errors import InvalidRequestError
from service.infrastructure.limited.tasks import TASKS

FRAME: Final = struct.Struct(">IQ")
"""Bytes of the JSON head of a frame, and bytes of its data."""

STARTED: Final = b"\x01"
"""Sent by a process before it reads its task."""

PR_SET_PDEATHSIG: Final = 1
MAX_OPEN_FILES: Final = 64


def write_frame(stream: Any, head: Mapping[str, Any], data: bytes = b"") -> None:
    """Write a frame."""
    text = json.dumps(head).encode()
    stream.write(FRAME.pack(len(text), len(data)))
    stream.write(text)
    stream.write(data)
    stream.flush()


def main() -> None:
    """Fork a process for every socket that arrives, until the server closes its end."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # the server stops its template
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for the processes
    _die_with(int(sys.argv[2]))
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        with contextlib.suppress(OSError):  # the server then sees a closed socket
            template = os.getpid()
            if os.fork() == 0:
                _serve(descriptors[0], template)
        for descriptor in descriptors:
            os.close(descriptor)


def _serve(descriptor: int, template: int) -> NoReturn:
    """Perform the task of one socket, and exit."""
    try:
        _die_with(template)
        os.dup2(descriptor, 3)
        os.closerange(4, MAX_OPEN_FILES)
        with socket.socket(fileno=3) as channel, channel.makefile("rwb") as stream:
            stream.write(STARTED)
            stream.flush()
            head_size, data_size = FRAME.unpack(stream.read(FRAME.size))
            head = json.loads(stream.read(head_size))
            _limit(head["memory_bytes"], head["cpu_seconds"], head["seconds"])
            try:
                result, data = TASKS[head["task"]](head["arguments"], stream.read(data_size))
            except InvalidRequestError as error:
                result, data = {"error": _error(error)}, b""
            except MemoryError:
                result, data = {"error": None}, b""
            write_frame(stream, result, data)
    finally:
        os._exit(0)


def _error(error: InvalidRequestError) -> dict[str, Any]:
    """Return an error for the head of a frame."""
    fields = [[e.pointer, e.code, e.detail, list(e.where)] for e in error.field_errors]
    return {"detail": error.detail, "code": error.error_code, "fields": fields}


def _limit(memory_bytes: int, cpu_seconds: int, seconds: int) -> None:
    """Limit this process, and leave the server's directory, environment and terminal."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - also before pathlib's own reads
        used = int(file.read().split()[0]) * resource.getpagesize()
    directory = tempfile.mkdtemp()
    os.chdir(directory)
    os.rmdir(directory)  # noqa: PTH106 - still the working directory, which stays empty
    signal.setitimer(signal.ITIMER_REAL, seconds)
    for kind, limit in (
        (resource.RLIMIT_AS, used + memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
    ):
        resource.setrlimit(kind, (limit, limit))
    os.environ.clear()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.close(null)


def _die_with(parent: int) -> None:
    """Let the kernel kill this process with its parent, and before the server if memory ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main()
