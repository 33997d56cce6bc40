"""Actions of a user that several tests of the web UI share."""

from pathlib import Path
from typing import Any

IRIS = Path(__file__).parents[1] / "data" / "iris.csv"
SEVEN = (0, 1, 2, 3, 4, 9, 13, 17, 22)


def draw(page: Any, cells: tuple[int, ...] = SEVEN) -> None:
    pad = page.locator(".pad")
    pad.scroll_into_view_if_needed()
    for cell in cells:
        box = pad.bounding_box()
        x = box["x"] + box["width"] * ((cell % 5) + 0.5) / 5
        y = box["y"] + box["height"] * ((cell // 5) + 0.5) / 5
        page.mouse.click(x, y)
    assert pad.locator("button[aria-pressed='true']").count() == len(cells)
