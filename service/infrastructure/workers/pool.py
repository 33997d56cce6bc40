"""A pool of worker processes on this machine, started in advance."""

import asyncio
import contextlib
import logging
import math
import os
import resource
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final, final

from service.application.ports.workers import NoWorkerError
from service.application.training.worker_protocol import (
    Report,
    TrainingFailedReport,
    TrainingFinishedReport,
    TrainingStoppedReport,
    TrainingTask,
    WorkerLostReport,
)
from service.infrastructure.workers.messages import (
    HEADER,
    Heartbeat,
    Stop,
    TakeCheckpoint,
    frame,
    parse,
)

HEARTBEAT_TIMEOUT_SECONDS: Final = 30.0
"""A worker that sends no message for this time is dead. Heartbeats are 60 times as frequent."""

THREAD_VARIABLES: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
RETRY_SECONDS: Final = 1.0
REPLACEMENT_SECONDS: Final = 10.0
"""Time that the replacement of the only worker may take while the server counts as ready."""

WORKER_COMMAND: tuple[str, ...] = ("-m", "service.infrastructure.workers.process")
log = logging.getLogger(__name__)


@final
class LocalExecutor:
    """Implements `service.application.training.worker_protocol.Executor` with processes."""

    def __init__(self, slots: int, memory_bytes: int) -> None:
        self.slots = slots
        self._memory_bytes = memory_bytes
        self._watches: set[asyncio.Task[None]] = set()
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._ready: set[_Worker] = set()
        self._ready_until = -math.inf
        self._starting: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.on_free: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Start all workers in the background."""
        for _ in range(self.slots):
            self._spawn()

    def free(self) -> int:
        """Return the number of idle workers."""
        self._idle = [worker for worker in self._idle if worker.process.returncode is None]
        return len(self._idle)

    def alive(self) -> int:
        """Return the number of workers that have reported ready."""
        return len(self._ready)

    def available(self) -> bool:
        """Return True if a worker is ready, or was until a moment ago and is being replaced."""
        return bool(self._ready) or time.monotonic() - self._ready_until < REPLACEMENT_SECONDS

    def memory(self) -> int:
        """Return the resident bytes of all workers, 0 if the system does not report them."""
        return sum(_resident_bytes(worker.process.pid) for worker in self._workers)

    async def begin(self, task: TrainingTask) -> "LocalAttempt":
        """Send a job to an idle worker."""
        message = frame(task)  # first, because an error here must not cost a worker
        if not self.free():
            raise NoWorkerError
        worker = self._idle.pop()
        worker.write(message)
        return LocalAttempt(worker, self)

    async def stop(self) -> None:
        """Stop all workers: close their pipes, and kill those that do not exit."""
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
        """Return a live worker to the pool, or kill it so that it is replaced."""
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
        """Start a worker, retrying until one starts."""
        while not self._stopping:
            try:
                await self._start_worker()
            except (OSError, EOFError) as error:
                log.warning("failed to start a worker, retrying: %s", error)
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
            await worker.receive()  # Ready
        except BaseException:
            self._workers.discard(worker)
            worker.kill()
            raise
        self._ready.add(worker)
        self._idle.append(worker)
        watch = asyncio.create_task(self._watch(worker))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _watch(self, worker: "_Worker") -> None:
        """Start another worker when this one exits, whether or not it was idle."""
        await worker.process.wait()
        self._workers.discard(worker)
        self._ready.discard(worker)
        self._ready_until = time.monotonic()
        if worker in self._idle:
            self._idle.remove(worker)
        self._spawn()


def _resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()


@final
class _Worker:
    """A worker process and the pipe to it."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def send(self, message: Any) -> None:
        """Send a message."""
        self.write(frame(message))

    def write(self, data: bytes) -> None:
        """Write a frame. That a worker has exited is noticed in `receive`."""
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(data)

    async def receive(self) -> Any:
        """Return the next message. Raise EOFError with the reason if the worker has exited."""
        reader = self.process.stdout
        assert reader is not None  # noqa: S101 - opened as a pipe
        try:
            async with asyncio.timeout(HEARTBEAT_TIMEOUT_SECONDS):
                header = await reader.readexactly(HEADER.size)
                return parse(await reader.readexactly(HEADER.unpack(header)[0]))
        except TimeoutError:
            self.kill()
            message = f"no heartbeat for {HEARTBEAT_TIMEOUT_SECONDS:.0f} s"
            raise EOFError(message) from None
        except asyncio.IncompleteReadError:
            code = await self.process.wait()
            raise EOFError(_describe_exit(code)) from None

    def end(self) -> None:
        """Close the pipe, upon which the worker exits."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def kill(self) -> None:
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


def _describe_exit(code: int) -> str:
    """Return a description of an exit status or signal."""
    if code >= 0:
        return f"exit status {code}"
    name = signal.Signals(-code).name
    return f"signal {-code}, {name}"


@final
class LocalAttempt:
    """Implements `service.application.training.worker_protocol.Attempt` with a worker process."""

    def __init__(self, worker: _Worker, executor: LocalExecutor) -> None:
        self._worker, self._executor = worker, executor
        self._deadline: asyncio.TimerHandle | None = None
        self._ended = False

    async def reports(self) -> AsyncGenerator[Report]:
        """Yield the reports of the worker, which is free once the last one is consumed."""
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
            # A worker whose reports were not all consumed is in an unknown state: kill it.
            self._ended = True
            if self._deadline is not None:
                self._deadline.cancel()
            self._executor.on_attempt_end(self._worker, alive=alive)

    def stop(self, *, kill_after: float) -> None:
        """Ask the worker to stop, and kill it after ``kill_after`` seconds.

        Further calls can only shorten the time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + kill_after
        if self._ended or (self._deadline is not None and self._deadline.when() <= deadline):
            return
        if self._deadline is None:
            self._worker.send(Stop())
        else:
            self._deadline.cancel()
        self._deadline = loop.call_at(deadline, self._kill)

    def checkpoint(self) -> None:
        """Request a checkpoint after the current epoch."""
        if not self._ended:
            self._worker.send(TakeCheckpoint())

    def _kill(self) -> None:
        if not self._ended:
            self._worker.kill()
