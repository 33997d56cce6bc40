"""Pictures of every view; `make screenshots` keeps them in docs/screenshots."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Server
from tests.page.conftest import VIEWPORTS
from tests.page.test_page import IRIS, draw

RETENTION = os.environ.get("SCREENSHOTS_DIR")


def home(page: Any) -> None:
    page.get_by_role("button", name="Train").first.click()
    draw(page)
    page.locator(".said strong").wait_for()
    page.get_by_text("all epochs done").wait_for(timeout=60_000)
    page.wait_for_timeout(400)


def playground(page: Any) -> None:
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text("all epochs done").wait_for(timeout=60_000)
    frames = page.get_by_label("Frame", exact=True)
    frames.fill(frames.get_attribute("max"))


def data(page: Any) -> None:
    page.get_by_label("paste rows").fill(IRIS.read_text())
    page.get_by_role("button", name="Store the dataset").wait_for()


def network(page: Any) -> None:
    draw(page)
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("green speaks for it").wait_for()


def jobs(page: Any) -> None:
    page.get_by_role("link", name="digits-demo").first.wait_for()


def job(page: Any) -> None:
    page.get_by_role("link", name="digits-demo").first.click()
    page.get_by_text("Training values in force").wait_for()
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
def test_every_view_has_its_picture_in_both_schemes(
    browser: Any, page_server: Server, tmp_path: Path, size: str
) -> None:
    folder = Path(RETENTION) if RETENTION else tmp_path
    width, height = VIEWPORTS[size]
    for name, (place, act) in VIEWS.items():
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="light"
        )
        page = context.new_page()
        page.goto(f"{page_server.url}/#/{place}")

        act(page)
        page.mouse.move(0, 0)
        page.evaluate("() => window.scrollTo(0, 0)")
        pictures = {}
        for scheme in ("light", "dark"):  # the page follows the system while it is open
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(300)
            file = folder / f"{name}-{size}-{scheme}.png"
            pictures[scheme] = page.screenshot(path=file, full_page=True)

        assert all(len(picture) > 10_000 for picture in pictures.values())
        assert pictures["light"] != pictures["dark"]
        context.close()
