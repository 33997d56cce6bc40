"""The soak: ``python -m tests.soak.run --classifies 200000 --jobs 500``."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import numpy as np

from tests.acceptance.server import Server

ROUNDS: Final = 10
WARM: Final = (40_000, 300)
"""Classifies and jobs in which caches, pools and the allocator's arenas fill."""

WANDERING: Final = 2
"""Descriptors and threads that come and go."""

CONNECTIONS: Final = 16
LAYERS: Final = [
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
BODY: Final = json.dumps({"inputs": [[0.5] * 25]}).encode()
CALL: Final = (
    b"POST /v1/networks/served/classify HTTP/1.1\r\nhost: soak\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class Leaky(Server):
    """A server with the planted leak."""

    def command(self) -> list[str]:
        """Return the command."""
        return [sys.executable, "-m", "tests.soak.planted"]


@dataclass(frozen=True)
class Sample:
    """What the server holds after a round."""

    classifies: int
    megabytes: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class IntegrityReport:
    """What was measured after each round of a warm server.

    Attributes
    ----------
    slope
        Megabytes for each 100,000 classifies, and the jobs and sessions beside them.
    """

    samples: list[Sample]
    failed: int

    @property
    def slope(self) -> float:
        """Fit a line through the memory."""
        return self._fit()[0]

    @property
    def error(self) -> float:
        """Return the standard error of the slope."""
        return self._fit()[1]

    def _fit(self) -> tuple[float, float]:
        calls = [sample.classifies / 100_000 for sample in self.samples]
        held = [sample.megabytes for sample in self.samples]
        line, covariance = np.polyfit(calls, held, 1, cov=True)
        return float(line[0]), float(np.sqrt(covariance[0][0]))

    def clean(self) -> bool:
        """Tell whether nothing grows and nothing failed."""
        first, last = self.samples[0], self.samples[-1]
        flat = (
            last.descriptors - first.descriptors <= WANDERING
            and last.threads - first.threads <= WANDERING
        )
        return self.slope - 2.0 * self.error < 1.0 and flat and not self.failed


class Soak:
    """One run against one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.failed = self.classified = 0

    def run(self, classifies: int, jobs: int, warm: tuple[int, int] = WARM) -> IntegrityReport:
        """Make so many requests, and as many event sessions as jobs, in equal rounds."""
        self.server.start()
        try:
            self._prepare()
            asyncio.run(self._round(*warm))
            samples = []
            for _ in range(ROUNDS):
                asyncio.run(self._round(classifies // ROUNDS, jobs // ROUNDS))
                samples.append(self._sample())
            return IntegrityReport(samples, self.failed)
        finally:
            self.server.client.close()
            self.server.stop()

    def _prepare(self) -> None:
        for name in ("served", "trained"):
            body = {"name": name, "input_shape": [25], "layers": LAYERS, "seed": 1}
            self.server.client.post("/v1/networks", json=body).raise_for_status()
        data = {"name": "digits", "builtin": "digits", "samples": 200, "seed": 1}
        self.server.client.post("/v1/datasets", json=data).raise_for_status()

    async def _round(self, classifies: int, jobs: int) -> None:
        share = classifies // CONNECTIONS
        await asyncio.gather(self._train(jobs), *(self._ask(share) for _ in range(CONNECTIONS)))

    async def _ask(self, calls: int) -> None:
        """Classify one row after another on one connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        for _ in range(calls):
            writer.write(CALL)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            self.failed += not head.startswith(b"HTTP/1.1 200")
            self.classified += 1
        writer.close()
        await writer.wait_closed()

    async def _train(self, jobs: int) -> None:
        """Train, and follow each training's events to their end."""
        training = {"epochs": 30}
        job = {"network": "trained", "dataset": "digits", "training": training}
        async with httpx.AsyncClient(base_url=self.server.url, timeout=60) as client:
            for _ in range(jobs):
                number = (await client.post("/v1/jobs", json=job)).json()["id"]
                events = (await client.get(f"/v1/jobs/{number}/events")).text
                self.failed += '"status":"succeeded"' not in events.rpartition("event: end")[2]

    def _sample(self) -> Sample:
        assert self.server.process is not None
        place = Path(f"/proc/{self.server.process.pid}")
        pages = int((place / "statm").read_text().split()[1])
        return Sample(
            self.classified,
            pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            len(list((place / "fd").iterdir())),
            len(list((place / "task").iterdir())),
        )


def main() -> int:
    """Run, print each round and the slope, and return 1 where something grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classifies", type=int, default=200_000)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--planted", action="store_true")
    options = parser.parse_args()
    kind = Leaky if options.planted else Server
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(kind(Path(folder) / "data", workers=1))
        findings = soak.run(options.classifies, options.jobs)
    for sample in findings.samples:
        sys.stdout.write(f"{sample}\n")
    verdict = "clean" if findings.clean() else "NOT CLEAN"
    sys.stdout.write(
        f"{findings.slope:+.2f} +- {findings.error:.2f} MB for 100,000, "
        f"{findings.failed} failed: {verdict}\n"
    )
    return 0 if findings.clean() else 1


if __name__ == "__main__":
    sys.exit(main())
