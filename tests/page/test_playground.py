"""The playground: settings, frames, hidden units, and points that the user adds."""

import pytest

from tests.page.conftest import CHROMIUM, Visit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def test_the_playground_trains_and_any_frame_can_be_selected(visit: Visit) -> None:
    page = visit.open("playground?units=4-3&epochs=200&seed=3")
    assert page.get_by_label("Epochs").input_value() == "200"

    page.get_by_role("button", name="Train").click()
    page.get_by_text("all epochs completed").wait_for(timeout=60_000)
    frames = page.get_by_label("Frame", exact=True)
    assert int(frames.get_attribute("max")) >= 90
    frames.fill("10")

    assert page.locator(".player .number").inner_text() == "epoch 20"
    unit = page.get_by_label("Unit 1 of layer 1")
    unit.focus()
    assert page.get_by_label("Output of unit 1 of layer 1").is_visible()
    page.get_by_label("Activation").select_option("relu")
    assert "activation=relu" in page.url


def test_a_network_can_be_trained_on_clicked_points(visit: Visit) -> None:
    page = visit.open("playground?data=points&epochs=100")
    plane = page.locator("canvas").first
    box = plane.bounding_box()
    for second, x in ((False, 0.2), (True, 0.8)):
        name = "orange points" if second else "blue points"
        page.get_by_role("button", name=name).click()
        plane.scroll_into_view_if_needed()
        box = plane.bounding_box()
        for y in (0.3, 0.5, 0.7):
            page.mouse.click(box["x"] + box["width"] * x, box["y"] + box["height"] * y)

    page.get_by_role("button", name="Train").click()

    page.get_by_text("all epochs completed").wait_for(timeout=60_000)
    assert "points=" in page.url


def test_points_can_be_added_with_the_keyboard(visit: Visit) -> None:
    page = visit.open("playground?data=points")
    page.locator("canvas").first.focus()
    for key in ("ArrowLeft", "ArrowUp", "Space", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.get_by_text("2 points.").wait_for()
