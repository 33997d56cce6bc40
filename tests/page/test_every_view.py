"""Every view: layout, contrast, navigation, hostile names and the content security policy."""

import re

import pytest

from tests.acceptance.server import Server
from tests.page.conftest import CHROMIUM, Visit

FITS_SCREEN = "() => document.documentElement.scrollWidth <= window.innerWidth"
CONTRAST = """(selector) => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((channel) => {
      const value = channel / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backgroundOf = (element) => {
    for (let node = element; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const ratios = [...document.querySelectorAll(selector)]
    .filter((element) => element.offsetParent && !element.disabled && element.textContent.trim())
    .map((element) => {
      const textColor = parse(getComputedStyle(element).color);
      const [a, b] = [luminance(textColor), luminance(backgroundOf(element))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
  return ratios.length ? Math.min(...ratios) : null;
}"""
HOSTILE_NAMES = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "javascript:alert(1)",
    "'\"><svg onload=document.title='owned'>",
    "{{constructor.constructor('document.title=1')()}}",
    "${document.title='owned'}",
    "../../etc/passwd",
    "a%2Fb",
    "🦉 naïve ﷺ \u202e reversed",
    "x" * 200,
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def test_hostile_names_are_displayed_as_text(visit: Visit, page_server: Server) -> None:
    layers = [{"type": "dense", "units": 2, "activation": "softmax"}]
    for name in HOSTILE_NAMES:
        response = page_server.client.post(
            "/v1/networks",
            json={"name": name, "input_shape": [3], "layers": layers, "labels": [name[:199], "b"]},
        )
        assert response.status_code in {201, 409}, response.text
    page = visit.open("networks")
    page.get_by_role("link", name="../../etc/passwd").wait_for()

    displayed = page.locator("table a").all_inner_texts()

    assert set(HOSTILE_NAMES) <= set(displayed)
    assert page.title() == "Networks · neurond"
    for name in (HOSTILE_NAMES[1], HOSTILE_NAMES[7]):
        page.goto(f"{visit.url}/#/networks")
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("heading", name=name, exact=True).wait_for()
        page.get_by_text(re.compile("float32 parameters")).wait_for()
    assert page.evaluate(FITS_SCREEN)


def test_every_view_fits_the_screen_and_has_enough_contrast(visit: Visit) -> None:
    for route in ("", "playground", "data", "networks", "jobs"):
        page = visit.open(route)
        page.get_by_role("heading", level=1).wait_for()
        assert page.evaluate(FITS_SCREEN), route
        for selector in (".quiet", "nav a", "h1", "button"):
            low = page.evaluate(CONTRAST, selector)
            assert low is None or low >= 4.5, (route, selector, low)


def test_all_links_of_the_navigation_fit_on_one_line(visit: Visit) -> None:
    page = visit.open()
    links = page.get_by_role("navigation", name="Main").get_by_role("link")
    links.last.wait_for()
    for route in ("", "playground", "data", "networks", "jobs"):  # the current link is bold
        visit.open(route)
        page.locator(f"nav a[href='#/{route}'][aria-current='page']").wait_for()

        boxes = [link.bounding_box() for link in links.all()]

        assert len(boxes) == 7
        assert len({box["y"] for box in boxes}) == 1, route
        sizes = links.evaluate_all(
            "(links) => links.map((link) => parseFloat(getComputedStyle(link).fontSize))"
        )
        assert min(sizes) >= 12


def test_the_content_security_policy_forbids_inline_scripts(page_server: Server) -> None:
    response = page_server.client.get("/", headers={"Accept": "text/html"})

    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert page_server.client.get("/").json() == {"status": "alive"}
    assert page_server.client.get("/page/assets/..%2Findex.html").status_code == 404
