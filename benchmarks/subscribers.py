"""Event subscribers that read and that do not, beside a server without any: memory and delay.

    python -m benchmarks.subscribers [--stalled 1000] [--live 200] [--seconds 10]

Starts a server of its own on 127.0.0.1, trains a small network without end, and prints the server's
memory before and after, how old epochs are when live subscribers see them, and the latency of
classify beside a run without subscribers.
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

LAYERS = [
    {"type": "dense", "units": 32, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
PORT = 8765
URL = f"http://127.0.0.1:{PORT}"


def resident(pid: int) -> float:
    """Return a process's resident memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def percentile(values: list[float], part: float) -> float:
    """Return a percentile, in milliseconds."""
    return 1e3 * sorted(values)[min(len(values) - 1, int(len(values) * part))]


async def stalled(job: str) -> asyncio.StreamWriter:
    """Open a stream and never read it."""
    _, writer = await asyncio.open_connection("127.0.0.1", PORT, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n\r\n".encode())
    return writer


async def live(client: httpx.AsyncClient, job: str, until: float, gaps: list[float]) -> None:
    """Read a stream, noting how long it was silent."""
    after = {"Last-Event-ID": "100"}
    last = None
    async with client.stream("GET", f"/v1/jobs/{job}/events", headers=after) as stream:
        async for _ in stream.aiter_raw():
            now = time.monotonic()
            if last is not None:
                gaps.append(now - last)
            last = now
            if now > until:
                return


def classify(seconds: float) -> list[float]:
    """Return the latencies of classify, one at a time."""
    taken, until = [], time.monotonic() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    body = json.dumps({"inputs": [[0.5] * 25]})
    while time.monotonic() < until:
        begun = time.perf_counter()
        connection.request("POST", "/v1/networks/net/classify", body)
        connection.getresponse().read()
        taken.append(time.perf_counter() - begun)
        time.sleep(0.01)
    return taken


async def elsewhere(seconds: float) -> list[float]:
    """Return what `classify` does in a process that reads no streams."""
    command = [sys.executable, "-m", "benchmarks.subscribers", "--classify", str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    found: list[float] = json.loads(told)
    return found


async def measure(options: argparse.Namespace, pid: int) -> None:
    """Run the two phases and print their figures."""
    limits = httpx.Limits(max_connections=options.live + 20)
    async with httpx.AsyncClient(base_url=URL, timeout=60, limits=limits) as client:
        network = {"name": "net", "input_shape": [25], "layers": LAYERS}
        await client.post("/v1/networks", json=network)
        data = {"name": "digits", "builtin": "digits", "samples": 20_000}
        await client.post("/v1/datasets", json=data)
        job = {"network": "net", "dataset": "digits", "training": {"epochs": 100_000}}
        number = (await client.post("/v1/jobs", json=job)).json()["id"]
        await asyncio.sleep(2.0)
        alone = await elsewhere(options.seconds / 2)
        before = resident(pid)
        writers = [await stalled(number) for _ in range(options.stalled)]
        until, gaps = time.monotonic() + options.seconds, list[float]()
        readers = [
            asyncio.create_task(live(client, number, until, gaps)) for _ in range(options.live)
        ]
        await asyncio.sleep(1.0)
        beside = await elsewhere(options.seconds - 2.0)
        after = resident(pid)
        await asyncio.gather(*readers)
        for writer in writers:
            writer.transport.abort()
        await client.post(f"/v1/jobs/{number}/cancel")
    print(f"memory {before:.0f} MB before, {after:.0f} MB with all: {after - before:+.0f} MB")
    if gaps:
        print(
            f"silence of a live stream: median {1e3 * statistics.median(gaps):.0f} ms, "
            f"p99 {percentile(gaps, 0.99):.0f} ms"
        )
    for name, taken in (("alone", alone), ("beside", beside)):
        p50, p99 = percentile(taken, 0.5), percentile(taken, 0.99)
        print(f"classify {name:7}: median {p50:.1f} ms, p99 {p99:.1f} ms ({len(taken)} calls)")
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"ratio of the medians {ratio:.2f}")


def main() -> None:
    """Start a server, measure, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stalled", type=int, default=1000)
    parser.add_argument("--live", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--classify", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.classify:
        print(json.dumps(classify(options.classify)))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "service", f"--port={PORT}", f"--data-dir={folder}/data"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    json.loads(httpx.get(f"{URL}/readyz").text)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            asyncio.run(measure(options, server.pid))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
