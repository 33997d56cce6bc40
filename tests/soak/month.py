"""A month of hourly retraining: ``python -m tests.soak.month --trainings 720``.

The data directory must grow by nothing but what is retained on purpose: versions, jobs and their
event logs.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.acceptance.server import Server

LAYERS: Final = [
    {"type": "dense", "units": 300, "activation": "relu"},
    {"type": "dense", "units": 280, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
"""100,000 parameters on 25 inputs."""

TRAINING: Final[dict[str, Any]] = {
    "epochs": 100_000,
    "early_stopping": None,
    "limits": {"seconds": 1.1},  # long enough for a checkpoint
}
PARTS: Final = 4


@dataclass(frozen=True)
class Sample:
    """The size of the data directory after a number of trainings."""

    trainings: int
    total: int
    weights: int
    database: int


class Month:
    """Trainings of one network on one dataset."""

    def __init__(self, folder: Path) -> None:
        self._server = Server(folder, workers=1)

    def run(self, trainings: int) -> list[Sample]:
        """Train, and return the sizes in the beginning and after each of `PARTS` parts."""
        self._server.start()
        client = self._server.client
        body = {"name": "net", "input_shape": [25], "layers": LAYERS}
        network = client.post("/v1/networks", json=body).raise_for_status().json()
        data = {"name": "digits", "builtin": "digits", "samples": 300}
        client.post("/v1/datasets", json=data).raise_for_status()
        samples = []
        for part in range(PARTS):
            for _ in range(trainings // PARTS):
                self._train()
            samples.append(self._sample((part + 1) * (trainings // PARTS), network))
        self._server.client.close()
        return samples

    def _train(self) -> None:
        job = {"network": "net", "dataset": "digits", "training": TRAINING}
        created = self._server.client.post("/v1/jobs", json=job).raise_for_status().json()
        finished = self._server.wait_until_finished(created["id"])
        assert finished["status"] == "succeeded", finished

    def _sample(self, trainings: int, network: dict[str, Any]) -> Sample:
        """Collect garbage while the server is stopped, and measure."""
        self._server.stop()
        folder = self._server.folder
        program = "from service.cli.main import neurond; neurond()"
        command = [sys.executable, "-c", program, "gc", "--data-dir", str(folder)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command
        files = [file for file in folder.rglob("*") if file.is_file()]
        self._server.start()
        return Sample(
            trainings,
            sum(file.stat().st_size for file in files),
            (trainings + 1) * network["parameter_count"] * 4,
            sum(file.stat().st_size for file in files if "sqlite3" in file.name),
        )

    def stop(self) -> None:
        """Stop the server."""
        if self._server.process is not None:
            self._server.stop()


def unexplained_growth(samples: list[Sample]) -> float:
    """Return the bytes per training by which the second half grew beyond weights and database."""
    middle, last = samples[PARTS // 2 - 1], samples[-1]
    grown = (last.total - last.weights - last.database) - (
        middle.total - middle.weights - middle.database
    )
    return grown / (last.trainings - middle.trainings)


def main() -> int:
    """Run, print the samples, and return 1 if the second half grew by anything else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainings", type=int, default=720)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        month = Month(Path(folder) / "data")
        try:
            samples = month.run(options.trainings)
        finally:
            month.stop()
    for sample in samples:
        sys.stdout.write(f"{sample}\n")
    growth = unexplained_growth(samples)
    sys.stdout.write(f"unexplained growth: {round(growth)} bytes for each training\n")
    return 0 if growth < 1000 else 1


if __name__ == "__main__":
    sys.exit(main())
