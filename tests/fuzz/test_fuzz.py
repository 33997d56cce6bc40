"""Some requests to every operation as Schemathesis makes them; `make nightly` makes far more."""

from pathlib import Path

import pytest

from tests.fuzz.run import fuzz

pytest.importorskip("schemathesis")
pytestmark = pytest.mark.slow


def test_no_request_finds_what_is_not_declared(tmp_path: Path) -> None:
    done = fuzz(tmp_path, 1, "--max-examples", "100")

    assert done.returncode == 0, done.stdout[-20_000:]
