"""A worker process: trains one job at a time and reports over its pipe.

It never opens the database. It exits when the server closes the pipe, and the kernel kills it when
the server dies. One thread receives messages and another sends heartbeats, so that neither waits
for an epoch.
"""

import contextlib
import ctypes
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO, Final

from service.application.training.worker_protocol import TrainingFailedReport, TrainingTask
from service.infrastructure.workers.job_loading import TrainingError
from service.infrastructure.workers.messages import (
    HEADER,
    Heartbeat,
    Ready,
    Stop,
    TakeCheckpoint,
    frame,
    parse,
)
from service.infrastructure.workers.training_run import run

HEARTBEAT_SECONDS: Final = 0.5
NICENESS: Final = 10
PR_SET_PDEATHSIG: Final = 1


class ServerPipe:
    """The worker's end of the pipe.

    Attributes
    ----------
    tasks
        Jobs that the server has sent.
    stop_requested, checkpoint_requested
        Requests of the server for the running job.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._lock = threading.Lock()
        self.tasks: queue.SimpleQueue[TrainingTask] = queue.SimpleQueue()
        self.stop_requested = threading.Event()
        self.checkpoint_requested = threading.Event()

    def send(self, message: Any) -> None:
        """Send a message. Exit the process if the server has closed the pipe."""
        data = frame(message)
        try:
            with self._lock:
                self._outgoing.write(data)
                self._outgoing.flush()
        except OSError:
            os._exit(0)

    def listen(self) -> None:
        """Receive messages. Exit the process when the server closes the pipe."""
        while True:
            header = self._incoming.read(HEADER.size)
            if len(header) < HEADER.size:
                os._exit(0)
            message = parse(self._incoming.read(HEADER.unpack(header)[0]))
            if isinstance(message, TrainingTask):
                self.stop_requested.clear()
                self.checkpoint_requested.clear()
                self.tasks.put(message)
            elif isinstance(message, Stop):
                self.stop_requested.set()
            elif isinstance(message, TakeCheckpoint):
                self.checkpoint_requested.set()

    def heartbeat(self) -> None:
        """Send heartbeats forever."""
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            self.send(Heartbeat(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def main() -> None:
    """Train jobs until the server closes the pipe."""
    _configure_process(server=int(sys.argv[1]), memory_bytes=int(sys.argv[2]))
    # Output that libraries print must not mix with the messages.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pipe = ServerPipe(os.fdopen(os.dup(0), "rb"), outgoing)
    for loop in (pipe.listen, pipe.heartbeat):
        threading.Thread(target=loop, daemon=True).start()
    pipe.send(Ready(os.getpid()))
    while True:
        task = pipe.tasks.get()
        try:
            for report in run(task, pipe.stop_requested.is_set, pipe.checkpoint_requested):
                pipe.send(report)
        except TrainingError as error:
            pipe.send(TrainingFailedReport(error.stop_reason, error.code, str(error)))
        except MemoryError:
            pipe.send(
                TrainingFailedReport(
                    "out_of_memory", "out_of_memory", "the worker ran out of memory"
                )
            )
        except Exception as error:  # noqa: BLE001 - top frame of a worker
            traceback.print_exc()
            detail = f"{type(error).__name__}: {error}"[:500]
            pipe.send(TrainingFailedReport("error", "training_error", detail))


def _configure_process(*, server: int, memory_bytes: int) -> None:
    """Set limits and priorities, and make the kernel kill the worker when its server dies."""
    for name in (signal.SIGINT, signal.SIGTERM):
        # Ctrl-C reaches the whole process group, but only the server stops its workers.
        signal.signal(name, signal.SIG_IGN)
    os.nice(NICENESS)
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")  # out of memory: kill the worker before the server
    if os.getppid() != server:
        os._exit(0)


if __name__ == "__main__":
    main()
