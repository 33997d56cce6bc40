"""Fixtures that run a real browser against a real server."""

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
        pytest.skip("the web UI is not built; run `make web`")
    server = Server(tmp_path_factory.mktemp("page") / "data", workers=1).start()
    yield server
    server.client.close()
    server.stop()


# Module scope: while Playwright runs, no other event loop can run in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as instance:
        launched = instance.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Visit:
    """A browser tab and the errors that occur in it."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        page.on("console", lambda message: self._on_console(message.type, message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", lambda response: self._on_response(response.status, response.url))
        page.on("request", lambda request: self._on_request(request.url))

    def _on_console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.errors.append(f"{kind}: {text}")

    def _on_response(self, status: int, url: str) -> None:
        if status >= 400:
            self.errors.append(f"{status} at {url}")

    def _on_request(self, url: str) -> None:
        if not url.startswith((self.url, "blob:", "data:")):
            self.errors.append(f"request to another host: {url}")

    def open(self, route: str = "") -> Any:
        self.page.goto(f"{self.url}/#/{route}")
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
    visit = Visit(context.new_page(), page_server.url)
    yield visit
    context.close()
    assert visit.errors == []
