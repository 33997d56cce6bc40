"""The home page: draw a digit, train the demo network, and see the digit classified."""

import gzip

import pytest

from service.api.web_ui import BUILT
from tests.page.actions import draw
from tests.page.conftest import CHROMIUM, Visit

LAYOUT_SHIFT = """() => new Promise((done) => {
  let total = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) total += entry.value;
  }).observe({ type: 'layout-shift', buffered: true });
  setTimeout(() => done(total), 300);
})"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def test_a_drawn_digit_is_classified_during_training(visit: Visit) -> None:
    page = visit.open()

    page.get_by_role("button", name="Train").click()
    draw(page)

    page.locator(".prediction strong").wait_for(timeout=60_000)
    page.wait_for_function(
        "() => document.querySelector('.prediction strong')?.textContent === '7'", timeout=60_000
    )
    page.get_by_text("all epochs completed").wait_for(timeout=60_000)
    best = page.locator("li.best .number").inner_text()
    assert float(best.removesuffix("%")) > 50
    assert page.evaluate(LAYOUT_SHIFT) < 0.1


def test_three_columns_can_be_drawn_with_the_mouse(visit: Visit) -> None:
    page = visit.open()
    pad = page.locator(".pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()

    for column in (0, 4, 2):
        x = box["x"] + box["width"] * (column + 0.5) / 5
        page.mouse.move(x, box["y"] + box["height"] * 0.1)
        page.mouse.down()
        page.mouse.move(x, box["y"] + box["height"] * 0.9, steps=12)
        page.mouse.up()

    drawn = pad.locator("button").evaluate_all(
        "(cells) => cells.map((cell) => cell.getAttribute('aria-pressed') === 'true')"
    )
    assert drawn == [column in {0, 2, 4} for _ in range(5) for column in range(5)]
    assert page.evaluate("() => document.getSelection().toString()") == ""


def test_the_first_paint_is_fast_and_the_scripts_are_small(visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("heading", name="Watch a network").wait_for()
    page.wait_for_function(
        "() => performance.getEntriesByName('first-contentful-paint').length > 0"
    )

    paint = page.evaluate(
        "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
    )

    assert paint < 1000
    scripts = [file.read_bytes() for file in (BUILT / "assets").glob("*.js")]
    assert sum(len(gzip.compress(script)) for script in scripts) < 150_000


def test_digits_can_be_drawn_with_the_keyboard(visit: Visit) -> None:
    page = visit.open()
    page.locator(".pad button[tabindex='0']").focus()

    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")

    pressed = page.locator(".pad button[aria-pressed='true']")
    assert pressed.get_attribute("aria-label") == "Row 2, column 3"
