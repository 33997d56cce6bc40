"""The server's side of limited processes."""

import asyncio
import json
import logging
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, final

from core.formats import Model
from core.formats.safetensors_format import Safetensors
from service.domain.errors import FieldError, InvalidRequestError, UnavailableError
from service.infrastructure.limited.template import FRAME, STARTED

CPU_SECONDS: Final = 10
SECONDS: Final = 60
"""Maximum duration of a task, which includes waiting for a core."""

MODEL_MEMORY_BYTES: Final = 1 << 30
MAX_HEAD_BYTES: Final = 16 << 20
MAX_RESULT_BYTES: Final = 4 << 30
COMMAND: Final = ("-m", "service.infrastructure.limited.template")
INHERITED: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
"""Environment variables that the template gets; others may hold secrets."""

log = logging.getLogger(__name__)


class TooExpensiveError(InvalidRequestError):
    """Reading a file needs more memory or time than a limited process has."""


@final
class LimitedProcesses:
    """Runs tasks in limited processes; the template starts with the first task.

    Parameters
    ----------
    slots
        Tasks that run at the same time; further ones wait.
    """

    def __init__(self, slots: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._starting = asyncio.Lock()
        self._template: Process | None = None
        self._control: socket.socket | None = None

    async def run(
        self, task: str, arguments: Mapping[str, Any], data: bytes, *, memory_bytes: int
    ) -> tuple[dict[str, Any], bytes]:
        """Run a task, and return the head and the data of its result.

        Parameters
        ----------
        task
            A key of `service.infrastructure.limited.tasks.TASKS`.
        memory_bytes
            Memory that the process may use in addition to what the template uses.

        Raises
        ------
        InvalidRequestError
            If the task rejects its data, or needs too much memory or time.
        UnavailableError
            If no process can be started.
        """
        head = {
            "task": task,
            "arguments": arguments,
            "memory_bytes": memory_bytes,
            "cpu_seconds": CPU_SECONDS,
            "seconds": SECONDS,
        }
        async with self._slots:
            reader, writer = await self._start_process()
            try:
                async with asyncio.timeout(SECONDS + 5):
                    result, content = await _exchange(reader, writer, head, data)
            except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, ValueError):
                result, content = {"error": None}, b""
            finally:
                writer.transport.abort()
        if "error" in result:
            raise _error(result["error"])
        return result, content

    async def stop(self) -> None:
        """Stop the template, and with it all processes."""
        async with self._starting:
            self._disconnect()
            if self._template is not None and self._template.returncode is None:
                self._template.kill()
                await self._template.wait()

    def _disconnect(self) -> None:
        """Close the socket to the template, upon which it ends."""
        if self._control is not None:
            self._control.close()
            self._control = None

    async def _start_process(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the streams of a new process that waits for its task."""
        for _ in range(2):  # the template may have died since the last task
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    socket.send_fds(await self._running_template(), [b"\x01"], [theirs.fileno()])
                except OSError as error:
                    ours.close()
                    log.warning("the template of limited processes has ended: %s", error)
                    self._disconnect()
                    continue
            reader, writer = await asyncio.open_connection(sock=ours)
            if await reader.read(1) == STARTED:
                return reader, writer
            writer.transport.abort()
            self._disconnect()
        raise UnavailableError("no process can be started to read the file")

    async def _running_template(self) -> socket.socket:
        """Return the socket to the template; start the template if it does not run."""
        async with self._starting:
            if self._control is not None:
                return self._control
            if self._template is not None and self._template.returncode is None:
                self._template.kill()
            ours, theirs = socket.socketpair()
            ours.settimeout(0)
            environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
            environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            with theirs:
                self._template = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *COMMAND,
                    str(theirs.fileno()),
                    str(os.getpid()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                )
            self._control = ours
            return ours


@final
class LimitedModelFiles:
    """Implements `service.application.ports.models.ModelFiles` with limited processes."""

    def __init__(self, processes: LimitedProcesses, max_parameters: int) -> None:
        self._processes, self._max_parameters = processes, max_parameters

    async def read(self, format_name: str, data: bytes) -> Model:
        """Return the model of a file."""
        arguments = {"format": format_name, "max_parameters": self._max_parameters}
        head, content = await self._processes.run(
            "read_model", arguments, data, memory_bytes=MODEL_MEMORY_BYTES
        )
        model = await asyncio.to_thread(Safetensors().read, content, self._max_parameters)
        return replace(model, notes=tuple(head["notes"]))


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    head: Mapping[str, Any],
    data: bytes,
) -> tuple[dict[str, Any], bytes]:
    """Send a task and return its result."""
    text = json.dumps(head).encode()
    writer.write(FRAME.pack(len(text), len(data)) + text)
    writer.write(data)
    await writer.drain()
    head_size, data_size = FRAME.unpack(await reader.readexactly(FRAME.size))
    if head_size > MAX_HEAD_BYTES or data_size > MAX_RESULT_BYTES:
        raise ValueError(head_size, data_size)
    result: dict[str, Any] = json.loads(await reader.readexactly(head_size))
    return result, await reader.readexactly(data_size)


def _error(error: Mapping[str, Any] | None) -> InvalidRequestError:
    """Return the error that a process has reported; None if it has died or was out of memory."""
    if error is None:
        return TooExpensiveError("reading the file needs too much memory or time")
    fields = [
        FieldError(where, code, detail, tuple((name, value) for name, value in details))
        for where, code, detail, details in error["fields"]
    ]
    return InvalidRequestError(error["detail"], fields, code=error["code"])
