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

from tests.acceptance.server import Server, alive

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
"""Some seconds: what is killed has a checkpoint by then, and goes on from it."""
ORPHAN_SECONDS = 2.0


class Planted(Server):
    """A server that may carry a planted fault."""

    field_error = ""

    def command(self) -> list[str]:
        """Return the command."""
        if not self.field_error:
            return super().command()
        return [sys.executable, "-m", "tests.chaos.planted", self.field_error]


@dataclass
class IntegrityReport:
    """What the run found; empty is good."""

    lost: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    orphans: list[int] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    integrity: str = "ok"
    kills: int = 0
    finished: int = 0
    interrupted: int = 0
    slowest_start: float = 0.0

    def clean(self) -> bool:
        """Tell whether nothing is wrong."""
        wrong = self.lost or self.different or self.orphans or self.leftovers
        return not wrong and self.integrity == "ok"


class Chaos:
    """One run over one folder."""

    def __init__(self, folder: Path, *, seed: int, field_error: str = "") -> None:
        self.random = random.Random(seed)  # noqa: S311 - it chooses whom to kill
        self.server = Planted(folder, workers=2)
        self.server.field_error = field_error
        self.findings = IntegrityReport()
        self.twins: list[str] = []
        self.networks: list[str] = []
        self.jobs: dict[str, tuple[str, int]] = {}

    def run(self, kills: int) -> IntegrityReport:
        """Kill so many times, then look at everything."""
        try:
            return self._run(kills)
        finally:
            self.server.kill()
            self.server.client.close()

    def _run(self, kills: int) -> IntegrityReport:
        self.server.start()
        data = {"name": "digits", "builtin": "digits", "samples": 400, "seed": 1}
        self.server.client.post("/v1/datasets", json=data)
        for variant in range(len(VARIANTS)):
            self.twins.append(self._twin(variant))
        while self.findings.kills < kills:
            with suppress(httpx.TransportError):
                self._submit(self.random.randrange(len(VARIANTS)))
            time.sleep(self.random.uniform(0.0, 2.0))
            self._kill()
        self._look()
        self.server.stop()
        self._look_at_disk()
        return self.findings

    def _twin(self, variant: int) -> str:
        """Return the digest of an uninterrupted training."""
        while True:
            before = set(self.jobs)
            self._submit(variant)
            for job in set(self.jobs) - before:
                ended = self.server.ended(job)
                assert ended["status"] == "succeeded", ended
                return self._digest(self.jobs[job][0])

    def _submit(self, variant: int) -> None:
        """Create a network and train it; what was answered for must never be lost."""
        client = self.server.client
        if len(client.get("/v1/jobs?status=queued").json()["data"]) > 3:
            return
        body = {"input_shape": [25], "layers": LAYERS, "seed": variant}
        answer = client.post("/v1/networks", json=body)
        if answer.status_code != 201:
            return
        network = answer.json()["id"]
        self.networks.append(network)
        training = {"epochs": EPOCHS, "seed": variant, **VARIANTS[variant]}
        job = {"network": network, "dataset": "digits", "training": training}
        answer = client.post("/v1/jobs", json=job)
        if answer.status_code == 202:
            self.jobs[answer.json()["id"]] = (network, variant)

    def _kill(self) -> None:
        """Kill the server, a worker, or both."""
        self.findings.kills += 1
        assert self.server.process is not None
        workers = self.server.workers_alive()
        victim = self.random.choice(["server", "worker", "both"])
        if victim != "server" and workers:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(workers), signal.SIGKILL)
        if victim == "worker":
            return
        self.server.kill()
        gone = time.monotonic() + ORPHAN_SECONDS
        while time.monotonic() < gone and any(alive(pid) for pid in workers):
            time.sleep(0.02)
        for pid in filter(alive, workers):
            self.findings.orphans.append(pid)
            os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        self.server.start()
        took = time.monotonic() - begun
        self.findings.slowest_start = max(self.findings.slowest_start, took)

    def _look(self) -> None:
        """Hold what is there against what was answered for, and results against their twins."""
        client = self.server.client
        for network in self.networks:
            if client.get(f"/v1/networks/{network}").status_code != 200:
                self.findings.lost.append(network)
        for job, (network, variant) in self.jobs.items():
            if client.get(f"/v1/jobs/{job}").status_code != 200:
                self.findings.lost.append(job)
                continue
            ended = self.server.ended(job)
            if ended["status"] == "succeeded":
                self.findings.finished += 1
                if self._digest(network) != self.twins[variant]:
                    self.findings.different.append(job)
            elif ended["stop_reason"] == "interrupted":
                self.findings.interrupted += 1
            else:
                self.findings.lost.append(f"{job}: {ended['error']}")

    def _digest(self, network: str) -> str:
        version = self.server.client.get(f"/v1/networks/{network}/versions/latest").json()
        return str(version["weights_sha256"])

    def _look_at_disk(self) -> None:
        """Check the database, and look for what should be gone."""
        with sqlite3.connect(self.server.folder / "neurond.sqlite3") as database:
            self.findings.integrity = database.execute("PRAGMA integrity_check").fetchone()[0]
        database.close()
        for folder in ("blobs/tmp", "uploads"):
            self.findings.leftovers += [
                str(file) for file in (self.server.folder / folder).iterdir()
            ]


def main() -> None:
    """Run, print what was found, and end with status 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        findings = Chaos(Path(folder) / "data", seed=options.seed).run(options.kills)
    sys.stdout.write(f"seed {options.seed}: {findings}\n")
    sys.exit(0 if findings.clean() else 1)


if __name__ == "__main__":
    main()
