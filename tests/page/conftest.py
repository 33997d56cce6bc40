"""A real browser on a real server."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from service.api.web_ui import BUILT
from tests.acceptance.server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VIEWPORTS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not (BUILT / "index.html").is_file():
        pytest.skip("the page is not built: `make web`")
    server = Server(tmp_path_factory.mktemp("page") / "data", workers=1).start()
    yield server
    server.client.close()
    server.stop()


# Of a module: while Playwright runs, no other event loop can in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Visit:
    """A tab, and what went wrong in it."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.field_errors: list[str] = []
        page.on("console", lambda told: self._note(told.type, told.text))
        page.on("pageerror", lambda error: self.field_errors.append(str(error)))
        page.on("response", lambda told: self._answered(told.status, told.url))
        page.on("request", lambda request: self._asked(request.url))

    def _note(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.field_errors.append(f"{kind}: {text}")

    def _answered(self, status: int, url: str) -> None:
        if status >= 400:
            self.field_errors.append(f"{status} at {url}")

    def _asked(self, url: str) -> None:
        if not url.startswith((self.url, "blob:", "data:")):
            self.field_errors.append(f"asked another host: {url}")

    def go(self, place: str = "") -> Any:
        self.page.goto(f"{self.url}/#/{place}")
        return self.page


@pytest.fixture(params=["desktop light", "phone dark"])
def visit(request: pytest.FixtureRequest, browser: Any, page_server: Server) -> Iterator[Visit]:
    size, scheme = request.param.split()
    width, height = VIEWPORTS[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        has_touch=size == "phone",
        service_workers="block",
    )
    made = Visit(context.new_page(), page_server.url)
    yield made
    context.close()
    assert made.field_errors == []
