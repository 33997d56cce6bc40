"""Limited processes: what a parser can cost, and what it can reach."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.domain.errors import InvalidRequestError
from service.infrastructure.limited import processes as limited
from service.infrastructure.limited.processes import LimitedProcesses, TooExpensiveError

MEMORY = 256 << 20


@pytest.fixture
async def processes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LimitedProcesses]:
    monkeypatch.setattr(limited, "COMMAND", ("-m", "tests.service.planted_tasks"))
    monkeypatch.setattr(limited, "CPU_SECONDS", 1)
    monkeypatch.setenv("NEUROND_BOOTSTRAP_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pool = LimitedProcesses(2)
    yield pool
    await pool.stop()


async def test_a_process_reaches_nothing_of_the_server(processes: LimitedProcesses) -> None:
    ours = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(ours, True)
    seen, data = await processes.run("look_around", {"a": 1}, b"abc", memory_bytes=MEMORY)
    os.close(ours)

    assert seen["environment"] == []
    assert seen["files"] == [0, 1, 2, 3]
    assert seen["directory"] == []
    assert not seen["writable"]
    assert (seen["arguments"], data) == ({"a": 1}, b"cba")


@pytest.mark.parametrize("task", ["allocate", "loop", "crash"])
async def test_a_task_that_costs_too_much_is_an_invalid_request(
    processes: LimitedProcesses, task: str
) -> None:
    with pytest.raises(TooExpensiveError):
        await processes.run(task, {}, b"", memory_bytes=MEMORY)

    assert (await processes.run("sleep", {}, b"", memory_bytes=MEMORY)) == ({}, b"")


async def test_an_error_keeps_its_location(processes: LimitedProcesses) -> None:
    with pytest.raises(InvalidRequestError, match="it is bad") as caught:
        await processes.run("refuse", {}, b"", memory_bytes=MEMORY)

    assert caught.value.field_errors[0].pointer == "/x"


async def test_the_event_loop_never_waits_for_a_task(processes: LimitedProcesses) -> None:
    tasks = [
        asyncio.ensure_future(processes.run("sleep", {}, b"", memory_bytes=MEMORY))
        for _ in range(6)
    ]
    longest, before = 0.0, time.monotonic()
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0.01)
        now = time.monotonic()
        longest, before = max(longest, now - before), now

    assert longest < 0.4  # a task sleeps for half a second


async def test_a_template_that_has_died_is_replaced(processes: LimitedProcesses) -> None:
    await processes.run("sleep", {}, b"", memory_bytes=MEMORY)
    template = processes._template
    assert template is not None
    os.kill(template.pid, signal.SIGKILL)
    await template.wait()

    assert (await processes.run("sleep", {}, b"", memory_bytes=MEMORY)) == ({}, b"")


async def test_the_template_ends_with_the_pool(processes: LimitedProcesses) -> None:
    await processes.run("sleep", {}, b"", memory_bytes=MEMORY)
    template = processes._template
    assert template is not None

    await processes.stop()

    assert template.returncode is not None
