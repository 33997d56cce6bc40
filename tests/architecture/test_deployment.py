"""What is deployed agrees with the code: the dashboard, the rules, the head of the migrations."""

import json
import re
from pathlib import Path

import pytest

from service import settings
from tests.service.conftest import in_process

DEPLOY = Path(__file__).parents[2] / "deploy"
ROOT = Path(__file__).parents[2]


async def test_every_metric_that_is_asked_for_is_told(tmp_path: Path) -> None:
    async with in_process(settings.Settings(data_dir=tmp_path, workers=1)) as client:
        await client.get("/v1/version")
        told = (await client.get("/metrics")).text
    dashboard = json.loads((DEPLOY / "grafana/dashboards/neurond.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked.append((DEPLOY / "prometheus/rules.yml").read_text())

    names = set(re.findall(r"\b(?:neurond|http_server)_[a-z_]+", " ".join(asked)))

    known = set(re.findall(r"^# TYPE (\S+)", told, re.MULTILINE))
    bare = {re.sub("_(bucket|count|total)$", "", name) for name in names}
    assert len(bare) > 5
    assert bare <= known | {re.sub("_total$", "", name) for name in known}


def test_the_head_is_the_newest_migration() -> None:
    from service.infrastructure.database.engine import HEAD  # noqa: PLC0415
    from service.infrastructure.database.upgrade import script  # noqa: PLC0415

    assert script()[1].get_current_head() == HEAD


@pytest.mark.parametrize(
    ("told", "expected"), [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("", 8)]
)
def test_workers_follow_the_quota_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    quota = tmp_path / "cpu.max"
    quota.write_text(told)
    monkeypatch.setattr(settings, "CPU_MAX", quota)

    assert settings.cores() == expected
    assert settings.default_workers() == max(1, expected - 1)
