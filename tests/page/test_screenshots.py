"""Take screenshots of every view; `make screenshots` writes them to docs/screenshots."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Server
from tests.page.actions import IRIS, draw
from tests.page.conftest import VIEWPORTS

SCREENSHOTS_DIR = os.environ.get("SCREENSHOTS_DIR")


def home(page: Any) -> None:
    page.get_by_role("button", name="Train").first.click()
    draw(page)
    page.locator(".prediction strong").wait_for()
    page.get_by_text("all epochs completed").wait_for(timeout=60_000)
    page.wait_for_timeout(400)


def playground(page: Any) -> None:
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text("all epochs completed").wait_for(timeout=60_000)
    frames = page.get_by_label("Frame", exact=True)
    frames.fill(frames.get_attribute("max"))


def data(page: Any) -> None:
    page.get_by_label("paste rows").fill(IRIS.read_text())
    page.get_by_role("button", name="Upload dataset").wait_for()


def network(page: Any) -> None:
    draw(page)
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("green supports the prediction").wait_for()


def jobs(page: Any) -> None:
    page.get_by_role("link", name="digits-demo").first.wait_for()


def job(page: Any) -> None:
    page.get_by_role("link", name="digits-demo").first.click()
    page.get_by_text("Training configuration").wait_for()
    page.wait_for_timeout(400)


VIEWS = {
    "home": ("", home),
    "playground": ("playground?data=spirals&units=10-8-6&epochs=1500", playground),
    "data": ("data", data),
    "network": ("networks/digits-demo", network),
    "jobs": ("jobs", jobs),
    "job": ("jobs", job),
}


@pytest.mark.parametrize("size", VIEWPORTS)
def test_every_view_renders_in_light_and_dark(
    browser: Any, page_server: Server, tmp_path: Path, size: str
) -> None:
    directory = Path(SCREENSHOTS_DIR) if SCREENSHOTS_DIR else tmp_path
    width, height = VIEWPORTS[size]
    for name, (route, prepare) in VIEWS.items():
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="light"
        )
        page = context.new_page()
        page.goto(f"{page_server.url}/#/{route}")

        prepare(page)
        page.mouse.move(0, 0)
        page.evaluate("() => window.scrollTo(0, 0)")
        screenshots = {}
        for scheme in ("light", "dark"):  # an open page follows the system color scheme
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(300)
            file = directory / f"{name}-{size}-{scheme}.png"
            screenshots[scheme] = page.screenshot(path=file, full_page=True)

        assert all(len(image) > 10_000 for image in screenshots.values())
        assert screenshots["light"] != screenshots["dark"]
        context.close()
