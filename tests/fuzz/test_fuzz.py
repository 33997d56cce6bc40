"""A short fuzzing run of every operation; `make nightly` runs longer."""

from pathlib import Path

import pytest

from tests.fuzz.run import fuzz

pytest.importorskip("schemathesis")
pytestmark = pytest.mark.slow


def test_schemathesis_finds_no_failure(tmp_path: Path) -> None:
    done = fuzz(tmp_path, 1, "--max-examples", "100")

    assert done.returncode == 0, done.stdout[-20_000:]
