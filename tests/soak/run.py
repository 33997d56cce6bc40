"""The soak test: ``python -m tests.soak.run --classifies 200000 --jobs 500``."""

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
WARM_UP: Final = (40_000, 300)
"""Classifications and jobs of the warm-up, in which caches, pools and allocator arenas fill."""

MAX_DRIFT: Final = 2
"""Largest accepted difference of open descriptors and of threads."""

CONNECTIONS: Final = 16
LAYERS: Final = [
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
BODY: Final = json.dumps({"inputs": [[0.5] * 25]}).encode()
CALL: Final = (
    b"POST /v1/networks/served/classify HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class Leaky(Server):
    """A server with a planted leak."""

    def command(self) -> list[str]:
        """Return the program and its first arguments."""
        return [sys.executable, "-m", "tests.soak.planted"]


@dataclass(frozen=True)
class Sample:
    """The resources of the server after a round."""

    classifies: int
    megabytes: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class SoakReport:
    """The samples of a warm server, one for each round.

    Attributes
    ----------
    slope
        Memory growth in megabytes per 100,000 classifications, including the concurrent jobs and
        event sessions.
    """

    samples: list[Sample]
    failed: int

    @property
    def slope(self) -> float:
        """Return the slope of a line fitted through the memory samples."""
        return self._fit()[0]

    @property
    def error(self) -> float:
        """Return the standard error of the slope."""
        return self._fit()[1]

    def _fit(self) -> tuple[float, float]:
        calls = [sample.classifies / 100_000 for sample in self.samples]
        megabytes = [sample.megabytes for sample in self.samples]
        line, covariance = np.polyfit(calls, megabytes, 1, cov=True)
        return float(line[0]), float(np.sqrt(covariance[0][0]))

    def is_clean(self) -> bool:
        """Return True if no resource grows and no request failed."""
        first, last = self.samples[0], self.samples[-1]
        flat = (
            last.descriptors - first.descriptors <= MAX_DRIFT
            and last.threads - first.threads <= MAX_DRIFT
        )
        return self.slope - 2.0 * self.error < 1.0 and flat and not self.failed


class Soak:
    """A soak test of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.failed = self.classified = 0

    def run(self, classifies: int, jobs: int, warm: tuple[int, int] = WARM_UP) -> SoakReport:
        """Send these numbers of requests, and follow the events of each job, in equal rounds."""
        self.server.start()
        try:
            self._prepare()
            asyncio.run(self._round(*warm))
            samples = []
            for _ in range(ROUNDS):
                asyncio.run(self._round(classifies // ROUNDS, jobs // ROUNDS))
                samples.append(self._sample())
            return SoakReport(samples, self.failed)
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
        await asyncio.gather(
            self._train(jobs), *(self._classify(share) for _ in range(CONNECTIONS))
        )

    async def _classify(self, calls: int) -> None:
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
        """Train jobs, and follow the events of each to its end."""
        training = {"epochs": 30}
        job = {"network": "trained", "dataset": "digits", "training": training}
        async with httpx.AsyncClient(base_url=self.server.url, timeout=60) as client:
            for _ in range(jobs):
                number = (await client.post("/v1/jobs", json=job)).json()["id"]
                events = (await client.get(f"/v1/jobs/{number}/events")).text
                self.failed += '"status":"succeeded"' not in events.rpartition("event: end")[2]

    def _sample(self) -> Sample:
        assert self.server.process is not None
        proc = Path(f"/proc/{self.server.process.pid}")
        resident_pages = int((proc / "statm").read_text().split()[1])
        return Sample(
            self.classified,
            resident_pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            len(list((proc / "fd").iterdir())),
            len(list((proc / "task").iterdir())),
        )


def main() -> int:
    """Run, print each sample and the slope, and return 1 if a resource grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classifies", type=int, default=200_000)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--planted", action="store_true")
    options = parser.parse_args()
    kind = Leaky if options.planted else Server
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(kind(Path(folder) / "data", workers=1))
        report = soak.run(options.classifies, options.jobs)
    for sample in report.samples:
        sys.stdout.write(f"{sample}\n")
    verdict = "clean" if report.is_clean() else "NOT CLEAN"
    sys.stdout.write(
        f"{report.slope:+.2f} +- {report.error:.2f} MB for 100,000, "
        f"{report.failed} failed: {verdict}\n"
    )
    return 0 if report.is_clean() else 1


if __name__ == "__main__":
    sys.exit(main())
