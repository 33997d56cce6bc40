"""The cost of live and stalled event subscribers: memory and latency.

    python -m benchmarks.subscribers [--stalled 1000] [--live 200] [--rounds 5] [--settle 1]

Starts a server on 127.0.0.1 and trains a small network continuously. Each round prints the memory
of the server and the latency of classify, without and with subscribers. At the end it prints how
long a live stream was silent. A stalled subscriber has a cost until its buffers are full;
`--settle 20` measures after that.
"""

import argparse
import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.waiting import wait_until_ready

LAYERS = [
    {"type": "dense", "units": 32, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
PORT = 8765
URL = f"http://127.0.0.1:{PORT}"


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def percentile(values: list[float], part: float) -> float:
    """Return a percentile, in milliseconds."""
    return 1e3 * sorted(values)[min(len(values) - 1, int(len(values) * part))]


class Subscriber(asyncio.Protocol):
    """An event stream: live, with recorded silences, or stalled, which never reads."""

    def __init__(self, job: str, gaps: list[float] | None) -> None:
        self._job, self._gaps, self._last = job, gaps, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Request the events after the hundredth."""
        self.transport = transport
        if self._gaps is None:
            transport.pause_reading()  # type: ignore[attr-defined]
        head = (
            f"GET /v1/jobs/{self._job}/events?after=100 HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n\r\n"
        )
        transport.write(head.encode())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Record the silence before the data."""
        now = time.monotonic()
        if self._last and self._gaps is not None:
            self._gaps.append(now - self._last)
        self._last = now


async def subscribers(count: int, job: str, gaps: list[float] | None) -> list[Subscriber]:
    """Open `count` streams of a job, and return them."""
    loop = asyncio.get_running_loop()
    return [
        (await loop.create_connection(lambda: Subscriber(job, gaps), "127.0.0.1", PORT))[1]
        for _ in range(count)
    ]


def classify(seconds: float) -> list[float]:
    """Return the latencies in seconds of sequential classify calls."""
    seconds_of_calls, deadline = [], time.monotonic() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    body = json.dumps({"inputs": [[0.5] * 25]})
    while time.monotonic() < deadline:
        started = time.perf_counter()
        connection.request("POST", "/v1/networks/net/classify", body)
        connection.getresponse().read()
        seconds_of_calls.append(time.perf_counter() - started)
        time.sleep(0.004)
    return seconds_of_calls


async def classify_in_subprocess(seconds: float) -> list[float]:
    """Run `classify` in a process that reads no streams, and return its latencies."""
    command = [sys.executable, "-m", "benchmarks.subscribers", "--classify", str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    latencies: list[float] = json.loads(output)
    return latencies


async def measure(options: argparse.Namespace, pid: int) -> None:
    """Run the rounds, each without and with subscribers, and print the figures."""
    gaps = list[float]()
    ratios: dict[str, list[float]] = {"median": [], "p99": []}
    async with httpx.AsyncClient(base_url=URL, timeout=60) as client:
        network = {"name": "net", "input_shape": [25], "layers": LAYERS}
        await client.post("/v1/networks", json=network)
        data = {"name": "digits", "builtin": "digits", "samples": 20_000}
        await client.post("/v1/datasets", json=data)
        job = {"network": "net", "dataset": "digits", "training": {"epochs": 100_000}}
        number = (await client.post("/v1/jobs", json=job)).json()["id"]
        await asyncio.sleep(2.0)  # the job starts
        for _ in range(options.rounds):
            before, without_subscribers = (
                resident(pid),
                await classify_in_subprocess(options.seconds),
            )
            streams = await subscribers(options.stalled, number, None)
            streams += await subscribers(options.live, number, gaps)
            await asyncio.sleep(options.settle)
            with_subscribers, after = await classify_in_subprocess(options.seconds), resident(pid)
            for stream in streams:
                stream.transport.abort()  # type: ignore[attr-defined]
            await asyncio.sleep(1.0)
            figures = []
            for name, part in (("median", 0.5), ("p99", 0.99)):
                unloaded, loaded = (
                    percentile(without_subscribers, part),
                    percentile(with_subscribers, part),
                )
                ratios[name].append(loaded / unloaded)
                figures.append(f"{name} {unloaded:.2f} -> {loaded:.2f} ms")
            print(
                f"classify {', '.join(figures)}; memory {before:.0f} -> {after:.0f} MB", flush=True
            )
        await client.post(f"/v1/jobs/{number}/cancel")
    if gaps:
        median, p99 = 1e3 * statistics.median(gaps), percentile(gaps, 0.99)
        print(f"silence of a live stream: median {median:.0f} ms, p99 {p99:.0f} ms")
    for name, values in ratios.items():
        print(f"ratio of the {name}s: {statistics.median(values):.2f} (median of the rounds)")


def main() -> None:
    """Start a server, measure, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stalled", type=int, default=1000)
    parser.add_argument("--live", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--settle", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--classify", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.classify:
        print(json.dumps(classify(options.classify)))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "service", f"--port={PORT}", f"--data-dir={folder}/data"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(base_url=URL) as client:
                wait_until_ready(client)
            asyncio.run(measure(options, server.pid))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
