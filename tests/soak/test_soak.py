"""A short soak, and the proof that it sees a leak."""

from pathlib import Path

import pytest

from tests.acceptance.server import Server
from tests.soak.run import Leaky, Soak

pytestmark = pytest.mark.slow


def test_a_server_holds_on_to_nothing(tmp_path: Path) -> None:
    findings = Soak(Server(tmp_path / "data", workers=1)).run(classifies=120_000, jobs=200)

    assert findings.clean(), findings


def test_a_planted_leak_is_found(tmp_path: Path) -> None:
    leaky = Soak(Leaky(tmp_path / "data", workers=1))
    findings = leaky.run(classifies=40_000, jobs=10, warm=(10_000, 10))

    assert not findings.clean(), findings
    assert findings.slope > 1.0
