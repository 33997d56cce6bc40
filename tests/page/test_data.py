"""Datasets: paste rows, upload them, and train on them."""

import re

import pytest

from tests.page.actions import IRIS
from tests.page.conftest import CHROMIUM, Visit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def test_pasted_rows_can_be_uploaded_and_trained_on(visit: Visit) -> None:
    page = visit.open("data")
    name = f"iris {page.viewport_size['width']}"
    page.get_by_label("paste rows").fill(IRIS.read_text())
    page.get_by_label("Name").fill(name)
    assert page.locator("article").count() == 5

    page.get_by_role("button", name="Upload dataset").click()
    page.get_by_role("button", name="Train a network on this dataset").click()

    page.get_by_text(re.compile("all epochs completed|stopped early")).wait_for(timeout=60_000)


def test_errors_name_the_row_and_column(visit: Visit) -> None:
    page = visit.open("data")
    page.get_by_label("paste rows").fill("a,b,y\n1,2,0\n3,,1\nx,4,1\n5,6,0\n")
    assert page.get_by_text("1 missing").is_visible()

    page.get_by_role("button", name="Upload dataset").click()

    page.get_by_role("alert").get_by_text(re.compile("row 2, column 'b'")).wait_for()
    # The browser console reports the expected 422 response.
    visit.errors = [error for error in visit.errors if "422" not in error]
