"""The Executor over processes of this machine, started before they are needed."""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final, final

from service.application.training.worker_protocol import (
    NoWorkerError,
    Report,
    TrainingFailedReport,
    TrainingFinishedReport,
    TrainingStoppedReport,
    TrainingTask,
    WorkerLostReport,
)
from service.infrastructure.workers.messages import (
    HEAD,
    Heartbeat,
    Stop,
    TakeCheckpoint,
    frame,
    parse,
)

HEARTBEAT_TIMEOUT_SECONDS: Final = 30.0
"""A worker that says nothing for so long is dead; its heartbeat is sixty times as fast."""

THREAD_VARIABLES: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
RETRY_SECONDS: Final = 1.0
WORKER_COMMAND: tuple[str, ...] = ("-m", "service.infrastructure.workers.process")
log = logging.getLogger(__name__)


@final
class LocalExecutor:
    """See `service.application.training.worker_protocol.Executor`."""

    def __init__(self, slots: int, memory_bytes: int) -> None:
        self.slots = slots
        self._memory_bytes = memory_bytes
        self._watches: set[asyncio.Task[None]] = set()
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.on_free: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Start all workers; they make themselves ready in the background."""
        for _ in range(self.slots):
            self._spawn()

    def free(self) -> int:
        """Return how many workers wait for a job."""
        self._idle = [worker for worker in self._idle if worker.process.returncode is None]
        return len(self._idle)

    def alive(self) -> int:
        """Return how many workers there are, those that are starting included."""
        return len(self._workers) + len(self._starting)

    def memory(self) -> int:
        """Return the bytes that all workers hold; none where the system does not tell."""
        return sum(_resident(worker.process.pid) for worker in self._workers)

    async def begin(self, task: TrainingTask) -> "LocalAttempt":
        """Hand a job to a worker that waits."""
        message = frame(task)  # what cannot be sent must not cost a worker
        if not self.free():
            raise NoWorkerError
        worker = self._idle.pop()
        worker.write(message)
        return LocalAttempt(worker, self)

    async def stop(self) -> None:
        """End all workers: their pipe closes, and what is left is killed."""
        self._stopping = True
        for task in self._starting:
            task.cancel()
        workers = list(self._workers)
        for worker in workers:
            worker.end()
        for worker in workers:
            try:
                await asyncio.wait_for(worker.process.wait(), 1.0)
            except TimeoutError:
                worker.kill()
                await worker.process.wait()

    def on_attempt_end(self, worker: "_Worker", *, alive: bool) -> None:
        """Take a worker back, or hire another in its place."""
        if alive:
            self._idle.append(worker)
        else:
            worker.kill()
        self.on_free()

    def _spawn(self) -> None:
        if not self._stopping:
            task = asyncio.create_task(self._spawn_with_retry())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _spawn_with_retry(self) -> None:
        """Start a worker, trying again until one starts."""
        while not self._stopping:
            try:
                await self._start_worker()
            except (OSError, EOFError) as error:
                log.warning("a worker did not start: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.on_free()
                return

    async def _start_worker(self) -> None:
        environment = dict(os.environ) | dict.fromkeys(THREAD_VARIABLES, "1")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *WORKER_COMMAND,
            str(os.getpid()),
            str(self._memory_bytes),
            stdin=PIPE,
            stdout=PIPE,
            env=environment,
        )
        worker = _Worker(process)
        self._workers.add(worker)
        try:
            await worker.receive()  # it says that it is ready
        except BaseException:
            self._workers.discard(worker)
            worker.kill()
            raise
        self._idle.append(worker)
        watch = asyncio.create_task(self._watch(worker))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _watch(self, worker: "_Worker") -> None:
        """Hire another worker when this one is gone, whatever it was doing."""
        await worker.process.wait()
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._spawn()


def _resident(pid: int) -> int:
    """Return the bytes that a process holds."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()


@final
class _Worker:
    """One process and its pipe."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def send(self, message: Any) -> None:
        """Send a message."""
        self.write(frame(message))

    def write(self, data: bytes) -> None:
        """Write a frame; a worker that is gone is noticed when it is listened to."""
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(data)

    async def receive(self) -> Any:
        """Return the next message; EOFError with the reason when the worker is gone."""
        reader = self.process.stdout
        assert reader is not None  # noqa: S101 - it was opened as a pipe
        try:
            async with asyncio.timeout(HEARTBEAT_TIMEOUT_SECONDS):
                head = await reader.readexactly(HEAD.size)
                return parse(await reader.readexactly(HEAD.unpack(head)[0]))
        except TimeoutError:
            self.kill()
            message = f"no sign of life for {HEARTBEAT_TIMEOUT_SECONDS:.0f} s"
            raise EOFError(message) from None
        except asyncio.IncompleteReadError:
            code = await self.process.wait()
            raise EOFError(_cause(code)) from None

    def end(self) -> None:
        """Close the pipe, which ends the worker."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def kill(self) -> None:
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


def _cause(code: int) -> str:
    """Return an exit code in words."""
    if code >= 0:
        return f"exit status {code}"
    name = signal.Signals(-code).name
    return f"signal {-code}, {name}"


@final
class LocalAttempt:
    """See `service.application.training.worker_protocol.Attempt`."""

    def __init__(self, worker: _Worker, executor: LocalExecutor) -> None:
        self._worker, self._executor = worker, executor
        self._deadline: asyncio.TimerHandle | None = None
        self._over = False

    async def reports(self) -> AsyncGenerator[Report]:
        """Yield what the worker says; the worker is free once its last report was taken."""
        alive = False
        try:
            while not alive:
                message = await self._worker.receive()
                if isinstance(
                    message, TrainingStoppedReport | TrainingFinishedReport | TrainingFailedReport
                ):
                    alive = True
                if not isinstance(message, Heartbeat):
                    yield message
        except EOFError as error:
            yield WorkerLostReport(str(error))
        finally:
            # A worker whose reports nobody takes to the end is not to be trusted.
            self._over = True
            if self._deadline is not None:
                self._deadline.cancel()
            self._executor.on_attempt_end(self._worker, alive=alive)

    def stop(self, *, kill_after: float) -> None:
        """See `service.application.training.worker_protocol.Attempt`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + kill_after
        if self._over or (self._deadline is not None and self._deadline.when() <= deadline):
            return
        if self._deadline is None:
            self._worker.send(Stop())
        else:
            self._deadline.cancel()
        self._deadline = loop.call_at(deadline, self._kill)

    def checkpoint(self) -> None:
        """Ask for a checkpoint now."""
        if not self._over:
            self._worker.send(TakeCheckpoint())

    def _kill(self) -> None:
        if not self._over:
            self._worker.kill()
