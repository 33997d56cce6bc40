"""Start, load and stop contenders."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx

from benchmarks.serving.contenders import ROOT, Contender
from tests.waiting import block_until

HERTZ = os.sysconf("SC_CLK_TCK")


def start(contender: Contender, port: int, expected: bytes) -> None:
    """Start a contender on its own core."""
    ports = {"{port}": port, "{port1}": port + 1000, "{port2}": port + 2000}

    def fill(text: str) -> str:
        for name, number in ports.items():
            text = text.replace(name, str(number))
        return text

    environment = dict(os.environ) | {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "BARE_ANSWER": expected.hex(),
    }
    environment |= {name: fill(value) for name, value in contender.environment.items()}
    contender.port = port
    contender.process = subprocess.Popen(
        ["taskset", "-c", "0", *map(fill, contender.command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for_response(contender: Contender, seconds: float = 60.0) -> bytes:
    """Return the body of the first successful response."""
    url = f"http://127.0.0.1:{contender.port}{contender.path}"

    def body() -> bytes | None:
        with contextlib.suppress(httpx.TransportError):
            response = httpx.post(
                url, content=contender.body, headers=contender.headers, timeout=5.0
            )
            return response.content if response.status_code == 200 else None
        return None

    content: bytes = block_until(body, timeout=seconds)
    return content


def process_tree(pid: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            for child in (task / "children").read_text().split():
                pids += process_tree(int(child))
        except OSError:
            continue
    return pids


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants."""
    total = 0
    for member in process_tree(pid):
        try:
            text = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(text[11]) + int(text[12])
    return total / HERTZ


def load(contender: Contender, connections: int, seconds: int, folder: Path) -> None:
    """Load a contender with wrk; record requests/s, p50 and p99 in ms, and CPU us per request."""
    assert contender.process is not None
    script = folder / "request.lua"
    headers = "\n".join(
        f'wrk.headers["{name}"] = "{value}"' for name, value in contender.headers.items()
    )
    body = folder / "body.bin"
    body.write_bytes(contender.body)
    script.write_text(
        f'wrk.method = "POST"\nlocal file = io.open("{body}", "rb")\n'
        f'wrk.body = file:read("*a")\nfile:close()\n{headers}\n'
        "done = function(summary, latency, requests)\n"
        '  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, '
        "summary.duration, latency:percentile(50), latency:percentile(99), "
        "summary.errors.status + summary.errors.read + summary.errors.timeout))\nend\n"
    )
    before = cpu_seconds(contender.process.pid)
    output = subprocess.run(
        [
            "taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
            "-s", str(script), f"http://127.0.0.1:{contender.port}{contender.path}",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout  # fmt: skip
    spent = cpu_seconds(contender.process.pid) - before
    match = re.search(r"RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)", output)
    assert match is not None, output
    requests, duration = int(match[1]), int(match[2]) / 1e6
    assert not int(match[5]), f"{contender.name}: {match[5]} requests failed"
    contender.rounds.append(
        (
            requests / duration,
            float(match[3]) / 1000,
            float(match[4]) / 1000,
            spent / requests * 1e6,
        )
    )


def stop(contender: Contender) -> None:
    """Stop a contender and its descendants."""
    if contender.process is None:
        return
    members = process_tree(contender.process.pid)
    for name in (signal.SIGINT, signal.SIGKILL):
        for member in members:
            try:
                os.kill(member, name)
            except ProcessLookupError:
                continue
        time.sleep(1.0 if name == signal.SIGINT else 0.0)
    contender.process.wait()
