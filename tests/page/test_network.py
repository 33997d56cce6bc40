"""A network: predictions, explanations, versions, weights and downloads."""

import re

import pytest

from tests.acceptance.server import Server
from tests.page.actions import draw
from tests.page.conftest import CHROMIUM, Visit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def test_a_network_can_be_explained_compared_checked_and_downloaded(
    visit: Visit, page_server: Server
) -> None:
    client = page_server.client
    layers = [{"type": "dense", "units": 10, "activation": "softmax"}]
    name = f"details {visit.page.viewport_size['width']}"
    body = {"name": name, "input_shape": [25], "layers": layers, "labels": list("0123456789")}
    assert client.post("/v1/networks", json=body).status_code == 201
    if client.get("/v1/datasets/details-data").status_code == 404:
        config = {"name": "details-data", "builtin": "digits", "samples": 200}
        assert client.post("/v1/datasets", json=config).status_code == 201
    job = {"network": name, "dataset": "details-data", "training": {"epochs": 30}}
    job_id = client.post("/v1/jobs", json=job).json()["id"]
    page_server.wait_until_finished(job_id)
    page = visit.open(f"networks/{name.replace(' ', '%20')}")

    draw(page)
    page.locator("li.best").wait_for()
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("green supports the prediction").wait_for()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text(re.compile(r"The prediction differs for \d+ of 200 rows")).wait_for()
    page.get_by_role("button", name="Check against finite differences").click()
    page.get_by_text(re.compile("passed: largest relative error")).wait_for(timeout=60_000)
    page.get_by_role("button", name="set as stable").last.click()
    page.get_by_role("cell", name=re.compile(r"^(alias )?stable$")).wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="npz", exact=True).click()
    assert download.value.suggested_filename == f"{name}.npz"
    page.get_by_text("Show the API request").click()
    assert "curl -X POST" in page.locator("pre").inner_text()


def test_weights_can_be_read_with_the_keyboard(visit: Visit, page_server: Server) -> None:
    name = f"keys {visit.page.viewport_size['width']}"
    layers = [{"type": "dense", "units": 2, "activation": "softmax"}]
    body = {"name": name, "input_shape": [3], "layers": layers}
    assert page_server.client.post("/v1/networks", json=body).status_code == 201
    page = visit.open(f"networks/{name.replace(' ', '%20')}")
    page.get_by_label("Weights from 3 inputs").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.get_by_text("input 2 → unit 2:").wait_for()
