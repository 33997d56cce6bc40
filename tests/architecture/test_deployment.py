"""The dashboard, the alert rules and the migrations match the code."""

import json
import re
from pathlib import Path

import pytest

from service import settings
from tests.service.conftest import in_process

DEPLOY = Path(__file__).parents[2] / "deploy"
ROOT = Path(__file__).parents[2]


async def test_metrics_of_the_dashboard_and_rules_exist(tmp_path: Path) -> None:
    async with in_process(settings.Settings(data_dir=tmp_path, workers=1)) as client:
        await client.get("/v1/version")
        metrics = (await client.get("/metrics")).text
    dashboard = json.loads((DEPLOY / "grafana/dashboards/neurond.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions.append((DEPLOY / "prometheus/rules.yml").read_text())

    names = set(re.findall(r"\b(?:neurond|http_server)_[a-z_]+", " ".join(expressions)))

    known = set(re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE))
    base_names = {re.sub("_(bucket|count|total)$", "", name) for name in names}
    assert len(base_names) > 5
    assert base_names <= known | {re.sub("_total$", "", name) for name in known}


def test_head_is_the_newest_migration() -> None:
    from service.infrastructure.database.engine import HEAD  # noqa: PLC0415
    from service.infrastructure.database.upgrade import script  # noqa: PLC0415

    assert script()[1].get_current_head() == HEAD


@pytest.mark.parametrize(
    ("content", "expected"), [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("", 8)]
)
def test_default_workers_follow_the_cpu_quota_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    quota = tmp_path / "cpu.max"
    quota.write_text(content)
    monkeypatch.setattr(settings, "CPU_MAX", quota)

    assert settings.cores() == expected
    assert settings.default_workers() == max(1, expected - 1)
