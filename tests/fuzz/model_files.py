"""Mutated model files against a running server: ``python -m tests.fuzz.model_files``.

Valid files are mutated byte by byte and structure by structure, and uploaded with ``dry_run`` while
``/healthz`` is called. Nothing may crash, take long, or cost the server memory.
"""

import argparse
import random
import re
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.acceptance.server import Server

LAYERS: Final = [
    {"type": "dense", "units": 16, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
KINDS: Final = {
    "npz": "application/x-npz",
    "safetensors": "application/vnd.safetensors",
    "onnx": "application/onnx",
}
NUMBERS: Final = (0, 1, 127, 128, 255)
LARGE: Final = tuple((1 << bits) - offset for bits in (15, 16, 31, 32, 63, 64) for offset in (0, 1))
SENDERS: Final = 2


@dataclass
class Report:
    """Responses, times and memory of the server.

    Attributes
    ----------
    slowest
        Longest time of a request, in seconds.
    grown
        Megabytes by which the peak memory of the server grew.
    health
        The 99th percentile of the times of ``/healthz``, in seconds.
    """

    statuses: dict[int, int] = field(default_factory=dict)
    slowest: float = 0.0
    grown: float = 0.0
    health: float = 0.0


def _set_byte(content: bytearray, at: int, chance: random.Random) -> None:
    content[at : at + 1] = bytes([chance.choice(NUMBERS)])


def _delete(content: bytearray, at: int, chance: random.Random) -> None:
    del content[at : at + chance.randint(1, 64)]


def _repeat(content: bytearray, at: int, chance: random.Random) -> None:
    content[at:at] = content[at : at + chance.randint(1, 64)]


def _set_number(content: bytearray, at: int, chance: random.Random) -> None:
    content[at : at + 8] = chance.choice(LARGE).to_bytes(9, "little")[:8]


def _insert(content: bytearray, at: int, chance: random.Random) -> None:
    content[at:at] = chance.randbytes(chance.randint(1, 64))


def _truncate(content: bytearray, at: int, _: random.Random) -> None:
    del content[at:]


def _set_digits(content: bytearray, _: int, chance: random.Random) -> None:
    digits = [match.span() for match in re.finditer(rb"\d+", content[:4096])]
    if digits:
        start, end = chance.choice(digits)
        content[start:end] = str(chance.choice(LARGE)).encode()


MUTATIONS: Final = (_set_byte, _delete, _repeat, _set_number, _insert, _truncate, _set_digits)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return a file with one to eight mutations."""
    content = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        chance.choice(MUTATIONS)(content, chance.randrange(len(content) or 1), chance)
    return bytes(content)


def peak_megabytes(server: Server) -> float:
    """Return the peak resident memory of the server process."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) / 1024 if match else 0.0


def fuzz(server: Server, files: int, seed: int) -> Report:
    """Upload mutated files to a server that is running, and return the report."""
    client = server.client
    body = {"name": "fuzzed", "input_shape": [25], "layers": LAYERS, "seed": 1}
    path = client.post("/v1/networks", json=body).raise_for_status().json()["links"]["self"]
    originals = {
        kind: client.get(f"{path}/weights?format={kind}").raise_for_status().content
        for kind in KINDS
    }
    report, chance = Report(), random.Random(seed)  # noqa: S311 - not for secrets
    _upload(client, path, "npz", originals["npz"])  # starts the template
    assert server.process is not None
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    before = peak_megabytes(server)
    jobs = [
        (kind, mutated(originals[kind], chance))
        for kind in (chance.choice(sorted(KINDS)) for _ in range(files))
    ]
    done = threading.Event()
    with ThreadPoolExecutor(SENDERS + 1) as pool:
        health = pool.submit(_watch, server.url, done)
        for status, seconds in pool.map(lambda job: _upload(client, path, *job), jobs):
            report.statuses[status] = report.statuses.get(status, 0) + 1
            report.slowest = max(report.slowest, seconds)
        done.set()
        times = sorted(health.result())
    report.health = times[int(len(times) * 0.99)]
    report.grown = peak_megabytes(server) - before
    return report


def _upload(client: httpx.Client, path: str, kind: str, data: bytes) -> tuple[int, float]:
    """Return the status of an upload, and its duration in seconds."""
    started = time.monotonic()
    headers = {"Content-Type": KINDS[kind]}
    query: dict[str, Any] = {"dry_run": True}
    response = client.put(f"{path}/weights", params=query, content=data, headers=headers)
    return response.status_code, time.monotonic() - started


def _watch(url: str, done: threading.Event) -> list[float]:
    """Return the times of calls to ``/healthz``, in seconds."""
    times = []
    with httpx.Client(base_url=url) as client:
        while not done.wait(0.02):
            started = time.monotonic()
            client.get("/healthz").raise_for_status()
            times.append(time.monotonic() - started)
    return times


def main() -> int:
    """Run, print the report, and return 1 if a file cost too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    environment = {"NEUROND_RATE_LIMIT_UPLOAD": "0"}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", workers=1, environment=environment).start()
        try:
            report = fuzz(server, options.files, options.seed)
        finally:
            server.client.close()
            server.stop()
    sys.stdout.write(f"{report}\n")
    accepted = set(report.statuses) <= {200, 400, 413, 422}
    return 0 if accepted and report.slowest < 2 and report.grown < 100 else 1


if __name__ == "__main__":
    sys.exit(main())
