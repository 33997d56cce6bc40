"""A short fuzzing run of every operation; `make nightly` runs longer."""

from pathlib import Path

import pytest

from tests.acceptance.server import Server
from tests.fuzz import model_files
from tests.fuzz.run import fuzz

pytest.importorskip("schemathesis")
pytestmark = pytest.mark.slow


def test_schemathesis_finds_no_failure(tmp_path: Path) -> None:
    done = fuzz(tmp_path, 1, "--max-examples", "100")

    assert done.returncode == 0, done.stdout[-20_000:]


def test_mutated_model_files_cost_the_server_little(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", environment={"NEUROND_RATE_LIMIT_UPLOAD": "0"}).start()
    try:
        report = model_files.fuzz(server, 1000, seed=7)
    finally:
        server.client.close()
        server.stop()

    assert set(report.statuses) <= {200, 400, 413, 422}, report
    assert report.grown < 100
