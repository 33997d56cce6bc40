"""Check the built documentation site: ``python -m docs.check_site``.

The strict build does not report a page that is missing from the navigation, a navigation entry
without a page, or a link to anything but a Markdown page.
"""

import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

ROOT = Path(__file__).parents[1]


class _Page(HTMLParser):
    """The anchors and the links of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the anchors and the links of a tag."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name in {"href", "src"}:
                self.links.append(value)


def navigation(entries: list[Any]) -> Iterator[str]:
    """Yield the Markdown files of a navigation."""
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from navigation(value) if isinstance(value, list) else [value]


def problems() -> list[str]:
    """Return a line for each problem of the site."""
    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    sources, site = ROOT / project["docs_dir"], (ROOT / project["site_dir"]).resolve()
    listed = set(navigation(project["nav"]))
    existing = {file.relative_to(sources).as_posix() for file in sources.rglob("*.md")}
    messages = [f"the navigation has no page {name}" for name in sorted(existing - listed)]
    messages += [f"there is no page {name}" for name in sorted(listed - existing)]
    messages += [f"published: {file.relative_to(site)}" for file in site.rglob("*.py")]
    pages = {file: _Page(file) for file in site.rglob("*.html") if file.name != "404.html"}
    if not pages:
        messages.append("the site is empty; run make docs")
    for file, page in pages.items():
        name = file.relative_to(site)
        messages += [
            f"{name}: {problem}"
            for link in page.links
            for problem in _check(link, file, site, pages)
        ]
    return messages


def _check(link: str, file: Path, site: Path, pages: dict[Path, _Page]) -> Iterator[str]:
    url, fragment = urldefrag(link)
    if ":" in url or url.startswith("//") or url == "/":  # another host, or the page of the server
        return
    target = (file.parent / unquote(url)).resolve() if url else file
    if url.startswith("/") or not target.is_relative_to(site):
        yield f"{link} leaves the site"
        return
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        yield f"{link} leads nowhere"
    elif fragment and target in pages and unquote(fragment) not in pages[target].anchors:
        yield f"{link} has no such anchor"


def main() -> None:
    """Print the problems, and exit with status 1 if there are any."""
    messages = problems()
    for line in messages:
        print(line)  # noqa: T201 - the output of the command
    sys.exit(bool(messages))


if __name__ == "__main__":
    main()
