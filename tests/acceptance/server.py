"""A real server process, started and ended as its users would."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

READY_SECONDS = 30.0
ENDED_SECONDS = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One process of ``neurond serve``."""

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
        """Start, and wait until it is ready."""
        log = (self.folder.parent / f"{self.folder.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                [*self.command(), *self.options()],
                stderr=log,
                stdout=log,
                env=dict(os.environ) | {"NEUROND_DRAIN_SECONDS": "0"} | self.environment,
            )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the server ended"
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/readyz").status_code == 200:
                    return self
            time.sleep(0.02)
        raise TimeoutError

    def command(self) -> list[str]:
        """Return the command."""
        return [sys.executable, "-m", "service"]

    def options(self) -> list[str]:
        """Return the command's options."""
        return [
            f"--port={self.port}",
            f"--data-dir={self.folder}",
            f"--workers={self.workers}",
        ]

    def workers_alive(self) -> list[int]:
        """Return the process ids of the server's workers."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def kill(self) -> None:
        """End the process as a power cut of its own would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End the process as an operator would, and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20.0)

    def ended(self, job: str) -> dict[str, Any]:
        """Return a job that has ended."""
        deadline = time.monotonic() + ENDED_SECONDS
        while time.monotonic() < deadline:
            body: dict[str, Any] = self.client.get(f"/v1/jobs/{job}?wait=10").json()
            if body["terminal"]:
                return body
        raise TimeoutError(job)

    def reaches(self, job: str, *statuses: str, epoch: int = 0) -> dict[str, Any]:
        """Return a job that is in one of these states, at least so far."""
        deadline = time.monotonic() + ENDED_SECONDS
        while time.monotonic() < deadline:
            body: dict[str, Any] = self.client.get(f"/v1/jobs/{job}").json()
            if body["status"] in statuses and body["progress"]["epoch"] >= epoch:
                return body
            assert not body["terminal"], body
            time.sleep(0.02)
        raise TimeoutError(job)


def alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
