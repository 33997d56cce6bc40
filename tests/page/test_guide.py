"""The documentation site in a real browser, below its content security policy."""

from typing import Any

import pytest

from service.api.guide import SITE
from tests.page.conftest import CHROMIUM, Visit

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="run `make docs` first"),
]


def open_guide(visit: Visit, path: str = "") -> Any:
    visit.page.goto(f"{visit.url}/guide/{path}")
    return visit.page


def test_the_guide_is_linked_from_the_page(visit: Visit) -> None:
    page = visit.open()

    page.get_by_role("link", name="Guide").click()

    page.get_by_role("heading", name="neurond", level=1).wait_for()


def test_the_search_finds_a_page(visit: Visit) -> None:
    page = open_guide(visit)
    page.keyboard.press("/")
    page.get_by_role("combobox", name="Search").fill("backpropagation")

    title = "Backpropagation and the recorded program"
    page.get_by_role("option", name=title).first.click()

    page.get_by_role("heading", name=title, level=1).wait_for()
    assert "/guide/explanation/recorded-program/" in page.url


def test_the_palette_can_be_changed(visit: Visit) -> None:
    page = open_guide(visit, "how-to/troubleshoot/")
    before = page.evaluate("() => document.body.getAttribute('data-md-color-scheme')")

    page.locator("form.md-header__option label:visible").first.click()

    page.wait_for_function(
        "(before) => document.body.getAttribute('data-md-color-scheme') !== before", arg=before
    )


def test_every_page_of_the_navigation_opens_without_an_error(visit: Visit) -> None:
    page = open_guide(visit)
    links = page.locator("nav a[href]").evaluate_all(
        "(links) => [...new Set(links.map((link) => link.href.split('#')[0]))]"
    )
    inside = [link for link in links if "/guide/" in link]

    for link in inside:
        page.goto(link)
        assert page.locator("h1").count() >= 1, link

    assert len(inside) > 25
