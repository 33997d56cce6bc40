"""A short soak test, and one with a planted leak that must be found."""

from pathlib import Path

import pytest

from tests.acceptance.server import Server
from tests.soak.month import Month, unexplained_growth
from tests.soak.run import Leaky, Soak

pytestmark = pytest.mark.slow


def test_a_short_soak_finds_no_leak(tmp_path: Path) -> None:
    report = Soak(Server(tmp_path / "data", workers=1)).run(classifies=120_000, jobs=200)

    assert report.is_clean(), report


def test_a_planted_leak_is_detected(tmp_path: Path) -> None:
    leaky = Soak(Leaky(tmp_path / "data", workers=1))
    report = leaky.run(classifies=40_000, jobs=10, warm=(10_000, 10))

    assert not report.is_clean(), report
    assert report.slope > 1.0


def test_retraining_grows_the_data_by_versions_and_logs_only(tmp_path: Path) -> None:
    month = Month(tmp_path / "data")
    try:
        samples = month.run(12)
    finally:
        month.stop()

    assert unexplained_growth(samples) < 1000
    last = samples[-1]
    assert last.total - last.weights - last.database < 10 << 20  # the reserve, and little else
