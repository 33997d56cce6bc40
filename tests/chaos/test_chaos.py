"""A short chaos run, and the proof that it finds what it looks for."""

from pathlib import Path

import pytest

from tests.chaos.run import Chaos

pytestmark = pytest.mark.slow


def test_nothing_is_lost_and_no_bit_differs_whatever_is_killed(tmp_path: Path) -> None:
    findings = Chaos(tmp_path / "data", seed=1).run(kills=8)

    assert findings.clean(), findings
    assert findings.finished > 0


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ("acknowledge_before_commit", "lost"),
        ("lost_generator_state", "different"),
        ("orphaned_worker", "orphans"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, fault: str, finding: str) -> None:
    # Five kills can all fall where this fault does no harm; of several runs one must show it.
    runs = (Chaos(tmp_path / str(seed), seed=seed, fault=fault) for seed in range(2, 8))
    assert any(getattr(chaos.run(kills=5), finding) for chaos in runs)
