"""A worker process: trains one job at a time and reports over its pipe.

It never opens the database. It ends by itself when the server's end of the pipe closes, and the
kernel kills it when the server dies. Messages come in on a thread of their own, and a heartbeat
goes out on another, so that neither waits for an epoch.
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
    HEAD,
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
    stop_asked, checkpoint_asked
        What the server wants of the job that is running.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._lock = threading.Lock()
        self.assignments: queue.SimpleQueue[TrainingTask] = queue.SimpleQueue()
        self.stop_asked = threading.Event()
        self.checkpoint_asked = threading.Event()

    def send(self, message: Any) -> None:
        """Send a message; a server that is gone ends the worker."""
        data = frame(message)
        try:
            with self._lock:
                self._outgoing.write(data)
                self._outgoing.flush()
        except OSError:
            os._exit(0)

    def listen(self) -> None:
        """Take messages until the pipe closes, which ends the worker."""
        while True:
            head = self._incoming.read(HEAD.size)
            if len(head) < HEAD.size:
                os._exit(0)
            message = parse(self._incoming.read(HEAD.unpack(head)[0]))
            if isinstance(message, TrainingTask):
                self.stop_asked.clear()
                self.checkpoint_asked.clear()
                self.assignments.put(message)
            elif isinstance(message, Stop):
                self.stop_asked.set()
            elif isinstance(message, TakeCheckpoint):
                self.checkpoint_asked.set()

    def heartbeat(self) -> None:
        """Say again and again that the worker lives."""
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            self.send(Heartbeat(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def main() -> None:
    """Take jobs until the server is gone."""
    _configure_process(server=int(sys.argv[1]), memory_bytes=int(sys.argv[2]))
    # What a library prints must not end up among the messages.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    link = ServerPipe(os.fdopen(os.dup(0), "rb"), outgoing)
    for loop in (link.listen, link.heartbeat):
        threading.Thread(target=loop, daemon=True).start()
    link.send(Ready(os.getpid()))
    while True:
        task = link.assignments.get()
        try:
            for report in run(task, link.stop_asked.is_set, link.checkpoint_asked):
                link.send(report)
        except TrainingError as refusal:
            link.send(TrainingFailedReport(refusal.stop_reason, refusal.code, str(refusal)))
        except MemoryError:
            link.send(
                TrainingFailedReport("out_of_memory", "out_of_memory", "training needs more memory")
            )
        except Exception as error:  # noqa: BLE001 - the top frame of a worker
            traceback.print_exc()
            detail = f"{type(error).__name__}: {error}"[:500]
            link.send(TrainingFailedReport("error", "training_error", detail))


def _configure_process(*, server: int, memory_bytes: int) -> None:
    """Arrange that the worker dies with its server, and never instead of it."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # a Ctrl-C reaches the whole group; the server decides
    os.nice(NICENESS)
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
    if os.getppid() != server:
        os._exit(0)


if __name__ == "__main__":
    main()
