"""The page of the API: what can be tried on it, in a real browser."""

import pytest

from tests.page.conftest import CHROMIUM, Visit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

CAN_BE_TRIED = {
    "networks-list_networks": True,
    "networks-create_network": True,
    "networks-delete_network": False,
    "datasets-delete_dataset": False,
    "keys-create_key": False,
    "keys-list_keys": False,
}


def test_only_harmless_operations_can_be_tried(visit: Visit) -> None:
    """A click in a frame of another page must not delete a network or create a key."""
    page = visit.page
    page.goto(f"{visit.url}/docs")
    tried = {}
    for operation in CAN_BE_TRIED:
        block = page.locator(f"#operations-{operation}")
        block.locator(".opblock-summary-control").click()
        block.locator(".opblock-body").wait_for()
        tried[operation] = bool(block.locator(".execute").count())

    assert tried == CAN_BE_TRIED
    visit.errors = [error for error in visit.errors if "deep link whitespace" not in error]
