"""A short chaos run, and the proof that it finds what it looks for."""

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
"""What is planted, and what finds it."""


def test_nothing_is_lost_and_no_bit_differs_whatever_is_killed(tmp_path: Path) -> None:
    findings = Chaos(tmp_path / "data", seed=1).run(kills=8)

    assert findings.clean(), findings
    assert findings.finished > 0


def shows(field_error: str, finding: str, folder: Path) -> bool:
    """Tell whether a run with a planted fault finds it.

    Five kills can all fall where this fault does no harm; of several runs one must show it.
    """
    runs = (
        Chaos(folder / f"{field_error}-{seed}", seed=seed, field_error=field_error)
        for seed in range(2, 8)
    )
    return any(getattr(chaos.run(kills=5), finding) for chaos in runs)


def test_planted_faults_are_found(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:  # each mostly waits for its own server
        found = {
            field_error: pool.submit(shows, field_error, kind, tmp_path)
            for field_error, kind in FAULTS.items()
        }

    assert {field_error: shown.result() for field_error, shown in found.items()} == dict.fromkeys(
        FAULTS, True
    )
