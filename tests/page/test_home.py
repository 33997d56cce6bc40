"""The home page: draw a digit, train the demo network, and see the digit classified."""

import gzip
from typing import Any

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


def stroke(page: Any, *cells: tuple[int, int]) -> None:
    """Move the pressed mouse over cells of the pad, (row, column)."""
    box = page.locator(".pad").bounding_box()
    for index, (row, column) in enumerate(cells):
        page.mouse.move(
            box["x"] + box["width"] * (column + 0.5) / 5,
            box["y"] + box["height"] * (row + 0.5) / 5,
            steps=12,
        )
        if index == 0:
            page.mouse.down()
    page.mouse.up()


def drawn(page: Any) -> list[str]:
    """Return the rows of the pad."""
    pressed = page.locator(".pad button").evaluate_all(
        "(cells) => cells.map((cell) => cell.getAttribute('aria-pressed') === 'true' ? '#' : '.')"
    )
    return ["".join(pressed[start : start + 5]) for start in range(0, 25, 5)]


def test_three_columns_can_be_drawn_with_the_mouse(visit: Visit) -> None:
    page = visit.open()
    page.locator(".pad").scroll_into_view_if_needed()

    for column in (0, 4, 2):
        stroke(page, (0, column), (4, column))

    assert drawn(page) == ["#.#.#"] * 5
    assert page.evaluate("() => document.getSelection().toString()") == ""


def test_a_stroke_from_a_drawn_cell_draws_and_a_click_clears(visit: Visit) -> None:
    page = visit.open()
    page.locator(".pad").scroll_into_view_if_needed()

    stroke(page, (0, 0), (0, 4))
    stroke(page, (0, 4), (2, 4), (2, 2))
    stroke(page, (2, 2), (4, 2))
    stroke(page, (0, 0))

    assert drawn(page) == [".####", "....#", "..###", "..#..", "..#.."]


def test_the_scripts_are_small(visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("heading", name="Watch a network").wait_for()

    scripts = [file.read_bytes() for file in (BUILT / "assets").glob("*.js")]
    assert sum(len(gzip.compress(script)) for script in scripts) < 150_000


def test_digits_can_be_drawn_with_the_keyboard(visit: Visit) -> None:
    page = visit.open()
    page.locator(".pad button[tabindex='0']").focus()

    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")

    pressed = page.locator(".pad button[aria-pressed='true']")
    assert pressed.get_attribute("aria-label") == "Row 2, column 3"
