"""The chaos run: ``python -m tests.chaos.run --kills 200``, or ``make chaos``."""

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.server import Server, is_alive
from tests.waiting import block_until

LAYERS = [
    {"type": "dense", "units": 24, "activation": "relu"},
    {"type": "dropout", "rate": 0.2},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
VARIANTS: list[dict[str, Any]] = [
    {"optimizer": {"type": "sgd", "learning_rate": 0.05, "momentum": 0.9}},
    {"optimizer": {"type": "adam", "learning_rate": 0.003}, "schedule": "constant"},
    {"optimizer": "rmsprop", "early_stopping": {"patience": 100_000}},
]
EPOCHS = 12_000
"""Enough for some seconds, so that a killed training has a checkpoint to resume from."""
ORPHAN_SECONDS = 2.0


class PlantedServer(Server):
    """A server that may carry a planted fault."""

    fault = ""

    def command(self) -> list[str]:
        """Return the program and its first arguments."""
        if not self.fault:
            return super().command()
        return [sys.executable, "-m", "tests.chaos.planted", self.fault]


@dataclass
class ChaosReport:
    """The problems that the run found, and its statistics."""

    lost: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    orphans: list[int] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    integrity: str = "ok"
    kills: int = 0
    finished: int = 0
    interrupted: int = 0
    slowest_start: float = 0.0

    def is_clean(self) -> bool:
        """Return True if the run found nothing wrong."""
        wrong = self.lost or self.different or self.orphans or self.leftovers
        return not wrong and self.integrity == "ok"


class Chaos:
    """A chaos run over one data directory."""

    def __init__(self, folder: Path, *, seed: int, fault: str = "") -> None:
        self.random = random.Random(seed)  # noqa: S311 - it chooses what to kill
        self.server = PlantedServer(folder, workers=2)
        self.server.fault = fault
        self.report = ChaosReport()
        self.references: list[str] = []
        self.networks: list[str] = []
        self.jobs: dict[str, tuple[str, int]] = {}

    def run(self, kills: int) -> ChaosReport:
        """Kill `kills` times, then check all data."""
        try:
            return self._run(kills)
        finally:
            self.server.kill()
            self.server.client.close()

    def _run(self, kills: int) -> ChaosReport:
        self.server.start()
        data = {"name": "digits", "builtin": "digits", "samples": 400, "seed": 1}
        self.server.client.post("/v1/datasets", json=data)
        for variant in range(len(VARIANTS)):
            self.references.append(self._train_reference(variant))
        while self.report.kills < kills:
            with suppress(httpx.TransportError):
                self._submit(self.random.randrange(len(VARIANTS)))
            time.sleep(self.random.uniform(0.0, 2.0))
            self._kill()
        self._check_resources()
        self.server.stop()
        self._check_disk()
        return self.report

    def _train_reference(self, variant: int) -> str:
        """Return the weights digest of an uninterrupted training."""
        known = set(self.jobs)

        def submitted() -> set[str]:
            self._submit(variant)
            return set(self.jobs) - known

        job = block_until(submitted).pop()
        ended = self.server.wait_until_finished(job)
        assert ended["status"] == "succeeded", ended
        return self._digest(self.jobs[job][0])

    def _submit(self, variant: int) -> None:
        """Create a network and a job, and record those that were acknowledged."""
        client = self.server.client
        if len(client.get("/v1/jobs?status=queued").json()["data"]) > 3:
            return
        body = {"input_shape": [25], "layers": LAYERS, "seed": variant}
        response = client.post("/v1/networks", json=body)
        if response.status_code != 201:
            return
        network = response.json()["id"]
        self.networks.append(network)
        training = {"epochs": EPOCHS, "seed": variant, **VARIANTS[variant]}
        job = {"network": network, "dataset": "digits", "training": training}
        response = client.post("/v1/jobs", json=job)
        if response.status_code == 202:
            self.jobs[response.json()["id"]] = (network, variant)

    def _kill(self) -> None:
        """Kill the server, a worker, or both."""
        self.report.kills += 1
        assert self.server.process is not None
        workers = self.server.worker_pids()
        victim = self.random.choice(["server", "worker", "both"])
        if victim != "server" and workers:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(workers), signal.SIGKILL)
        if victim == "worker":
            return
        self.server.kill()
        with suppress(TimeoutError):
            block_until(lambda: not any(map(is_alive, workers)), timeout=ORPHAN_SECONDS)
        for pid in filter(is_alive, workers):
            self.report.orphans.append(pid)
            os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        self.server.start()
        seconds = time.monotonic() - begun
        self.report.slowest_start = max(self.report.slowest_start, seconds)

    def _check_resources(self) -> None:
        """Check that acknowledged resources exist and that results equal their references."""
        client = self.server.client
        for network in self.networks:
            if client.get(f"/v1/networks/{network}").status_code != 200:
                self.report.lost.append(network)
        for job, (network, variant) in self.jobs.items():
            if client.get(f"/v1/jobs/{job}").status_code != 200:
                self.report.lost.append(job)
                continue
            ended = self.server.wait_until_finished(job)
            if ended["status"] == "succeeded":
                self.report.finished += 1
                if self._digest(network) != self.references[variant]:
                    self.report.different.append(job)
            elif ended["stop_reason"] == "interrupted":
                self.report.interrupted += 1
            else:
                self.report.lost.append(f"{job}: {ended['error']}")

    def _digest(self, network: str) -> str:
        version = self.server.client.get(f"/v1/networks/{network}/versions/latest").json()
        return str(version["weights_sha256"])

    def _check_disk(self) -> None:
        """Check the integrity of the database, and look for leftover temporary files."""
        with sqlite3.connect(self.server.folder / "neurond.sqlite3") as database:
            self.report.integrity = database.execute("PRAGMA integrity_check").fetchone()[0]
        database.close()
        for folder in ("blobs/tmp", "uploads"):
            self.report.leftovers += [str(file) for file in (self.server.folder / folder).iterdir()]


def main() -> None:
    """Run, print the report, and exit with status 1 if it has a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Chaos(Path(folder) / "data", seed=options.seed).run(options.kills)
    sys.stdout.write(f"seed {options.seed}: {report}\n")
    sys.exit(0 if report.is_clean() else 1)


if __name__ == "__main__":
    main()
