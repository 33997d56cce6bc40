"""The documentation site that the server serves."""

import httpx
import pytest

from service.api.guide import SITE
from tests.service.conftest import problem

pytestmark = pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="run `make docs` first")


async def test_pages_have_a_policy_that_allows_scripts_by_hash(client: httpx.AsyncClient) -> None:
    response = await client.get("/guide/")

    policy = response.headers["content-security-policy"]
    assert response.status_code == 200
    assert "unsafe-inline" not in policy
    assert policy.count("'sha256-") >= 3


async def test_the_bare_path_redirects_to_the_first_page(client: httpx.AsyncClient) -> None:
    response = await client.get("/guide")

    assert (response.status_code, response.headers["location"]) == (308, "/guide/")


@pytest.mark.parametrize(
    "path", ["nowhere", "../app.css", "..%2fdist%2findex.html", "/etc/passwd", "how-to/nowhere/"]
)
async def test_only_files_of_the_site_are_served(client: httpx.AsyncClient, path: str) -> None:
    problem(await client.get(f"/guide/{path}"), 404, "not_found")


async def test_a_browser_gets_the_page_for_an_error(client: httpx.AsyncClient) -> None:
    response = await client.get("/guide/nowhere", headers={"Accept": "text/html,*/*"})

    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")
    assert "content-security-policy" in response.headers
