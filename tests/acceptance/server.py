"""A real server process, started and stopped like its users do."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import block_until

READY_SECONDS = 30.0
JOB_SECONDS = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A process of ``neurond serve``."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        port: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.environment = environment or {}
        self.folder, self.workers = folder, workers
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.url, timeout=30.0)

    def start(self) -> "Server":
        """Start the server, and wait until it is ready."""
        log = (self.folder.parent / f"{self.folder.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                [*self.command(), *self.options()],
                stderr=log,
                stdout=log,
                env=dict(os.environ) | {"NEUROND_DRAIN_SECONDS": "0"} | self.environment,
            )
        block_until(self._is_ready, timeout=READY_SECONDS)
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the server exited"
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/readyz").status_code == 200
        return False

    def command(self) -> list[str]:
        """Return the program and its first arguments."""
        return [sys.executable, "-m", "service"]

    def options(self) -> list[str]:
        """Return the command-line options."""
        return [
            f"--port={self.port}",
            f"--data-dir={self.folder}",
            f"--workers={self.workers}",
        ]

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop the process with SIGTERM, and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20.0)

    def wait_until_finished(self, job: str) -> dict[str, Any]:
        """Return the job when it is in a terminal status."""

        def finished() -> dict[str, Any] | None:
            body: dict[str, Any] = self.client.get(f"/v1/jobs/{job}?wait=10").json()
            return body if body["terminal"] else None

        body: dict[str, Any] = block_until(finished, timeout=JOB_SECONDS)
        return body

    def wait_for_status(self, job: str, *statuses: str, epoch: int = 0) -> dict[str, Any]:
        """Return the job when it has one of these statuses and has trained at least `epoch`."""

        def reached() -> dict[str, Any] | None:
            body: dict[str, Any] = self.client.get(f"/v1/jobs/{job}").json()
            if body["status"] in statuses and body["progress"]["epoch"] >= epoch:
                return body
            assert not body["terminal"], body
            return None

        body: dict[str, Any] = block_until(reached, timeout=JOB_SECONDS)
        return body


def is_alive(pid: int) -> bool:
    """Return True if the process runs and is not a zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
