"""Servers with a planted fault that the chaos run must find.

python -m tests.chaos.planted FAULT --port ... --data-dir ...
"""

import ctypes
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from core.training import Trainer
from service.cli.main import neurond
from service.infrastructure.database import engine
from service.infrastructure.workers import pool
from service.infrastructure.workers import process as worker

FAULTS = ("acknowledge_before_commit", "lost_generator_state", "orphaned_worker")


def acknowledge_before_commit() -> None:
    """Acknowledge every third creation of a network, and then roll it back."""
    original, created = engine.SqlDatabase.write, [0]

    @asynccontextmanager
    async def write(self: Any) -> AsyncIterator[Any]:
        async with original(self) as work:
            added, adds = work.networks.add, [0]

            async def add(network: Any) -> None:
                adds[0] += 1
                await added(network)

            work.networks.add = add  # type: ignore[method-assign]
            yield work
            created[0] += adds[0]
            if adds[0] and created[0] % 3 == 0:
                await work.jobs.connection.rollback()  # type: ignore[attr-defined]

    engine.SqlDatabase.write = write  # type: ignore[method-assign]


def lost_generator_state() -> None:
    """Reset the random generator when a training is restored."""
    original = Trainer.restore

    def restore(self: Trainer, state: bytes) -> None:
        original(self, state)
        self._generator = np.random.Generator(np.random.SFC64(0))

    Trainer.restore = restore  # type: ignore[method-assign]


def orphaned_worker() -> None:
    """Let workers outlive their server."""

    def configure_process(**_: int) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(worker.PR_SET_PDEATHSIG, 0)

    worker._configure_process = configure_process
    without_exit = SimpleNamespace(**{**vars(os), "_exit": lambda _: None})
    worker.os = without_exit  # type: ignore[attr-defined, assignment]


def main() -> None:
    """Plant the fault, and start the server or one of its workers with it."""
    fault, *arguments = sys.argv[1:]
    globals()[fault]()
    if arguments[0] == "worker":
        sys.argv = ["worker", *arguments[1:]]
        worker.main()
    else:
        command = ("-m", "tests.chaos.planted", fault, "worker")
        pool.WORKER_COMMAND = command
        neurond(["serve", *arguments])


if __name__ == "__main__":
    main()
