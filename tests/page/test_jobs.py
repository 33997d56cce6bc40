"""Jobs: controls, comparison, and reconnection after a server restart."""

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Server
from tests.page.conftest import CHROMIUM, Visit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def test_jobs_can_be_paused_resumed_cancelled_and_compared(
    visit: Visit, page_server: Server
) -> None:
    client = page_server.client
    name = f"pause {visit.page.viewport_size['width']}"
    layers = [{"type": "dense", "units": 10, "activation": "softmax"}]
    client.post("/v1/networks", json={"name": name, "input_shape": [25], "layers": layers})
    if client.get("/v1/datasets/pause-data").status_code == 404:
        client.post("/v1/datasets", json={"name": "pause-data", "builtin": "digits"})
    body = {"network": name, "dataset": "pause-data", "training": {"epochs": 4000}}
    first = client.post("/v1/jobs", json=body).json()["id"]
    page = visit.open(f"jobs/{first}")

    page.get_by_role("button", name="Pause").click()
    page.get_by_text("paused", exact=True).wait_for(timeout=60_000)
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Cancel").wait_for(timeout=60_000)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("cancelled", exact=True).wait_for(timeout=60_000)

    body["training"] = {"epochs": 50, "seed": 1}
    second = client.post("/v1/jobs", json=body).json()["id"]
    page_server.wait_until_finished(second)
    visit.open(f"jobs/{second}/{first}")
    page.get_by_text("Differences from").wait_for()
    page.get_by_role("cell", name="epochs", exact=True).wait_for()


def test_the_page_reconnects_after_a_server_restart(browser: Any, tmp_path: Path) -> None:
    server = Server(tmp_path / "data", workers=1).start()
    client = server.client
    try:
        layers = [{"type": "dense", "units": 10, "activation": "softmax"}]
        client.post("/v1/networks", json={"name": "n", "input_shape": [25], "layers": layers})
        client.post("/v1/datasets", json={"name": "d", "builtin": "digits"})
        body = {"network": "n", "dataset": "d", "training": {"epochs": 4900}}
        job = client.post("/v1/jobs", json=body).json()["id"]
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{server.url}/#/jobs/{job}")
        page.get_by_text("running", exact=True).wait_for()
        server.wait_for_status(job, "running", epoch=100)

        server.kill()
        page.get_by_text("connection lost").wait_for(timeout=60_000)
        server.start()

        page.get_by_text("all epochs completed").wait_for(timeout=60_000)
        context.close()
    finally:
        server.client.close()
        server.stop()
