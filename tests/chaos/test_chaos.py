"""A short chaos run, and runs with planted faults that must be found."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.run import Chaos

pytestmark = pytest.mark.slow

FAULTS = {
    "acknowledge_before_commit": "lost",
    "lost_generator_state": "different",
    "orphaned_worker": "orphans",
}
"""The planted faults, and the field of the report that shows each."""


def test_a_short_chaos_run_finds_no_problem(tmp_path: Path) -> None:
    report = Chaos(tmp_path / "data", seed=1).run(kills=8)

    assert report.is_clean(), report
    assert report.finished > 0


def detects(fault: str, finding: str, folder: Path) -> bool:
    """Return True if a run with a planted fault finds it.

    Five kills may all happen at moments when the fault is harmless, so one of six runs suffices.
    """
    runs = (Chaos(folder / f"{fault}-{seed}", seed=seed, fault=fault) for seed in range(2, 8))
    return any(getattr(chaos.run(kills=5), finding) for chaos in runs)


def test_planted_faults_are_detected(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:  # each mostly waits for its own server
        results = {
            fault: pool.submit(detects, fault, kind, tmp_path) for fault, kind in FAULTS.items()
        }

    assert {fault: result.result() for fault, result in results.items()} == dict.fromkeys(
        FAULTS, True
    )
