"""The documentation site, as it was built: static files below ``/guide``."""

import base64
import hashlib
import mimetypes
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response
from fastapi.responses import FileResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.domain.errors import NotFoundError

SITE: Final = Path(__file__).parents[1] / "web" / "guide"
"""Built by ``make docs``; a wheel and an image contain it."""

NOT_FOUND: Final = "404.html"
INLINE_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
SEARCH_STYLE: Final = "'sha256-NwSx/R2V/U4jnW0Tq5pQ53Y/rzPVJ4dqE7D6UTA/J1k='"
"""The style sheet that the site's search adds to its shadow root; a browser test checks it."""

router = APIRouter(include_in_schema=False)


@router.get("/guide")
async def redirect_to_guide() -> Response:
    """Redirect to the first page, below which all links are relative."""
    return RedirectResponse("/guide/", 308)


@router.get("/guide/{path:path}")
async def get_guide_file(path: str, accept: Annotated[str, Header()] = "") -> Response:
    """Return a page or another file of the site; a browser gets the site's page for an error."""
    file, status = await run_in_threadpool(_find, path), 200
    if file is None and "text/html" in accept:
        file, status = await run_in_threadpool(_find, NOT_FOUND), 404
    if file is None:
        raise NotFoundError("page", path)
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    headers = {"Cache-Control": "no-cache"}
    if kind == "text/html":
        headers["Content-Security-Policy"] = await run_in_threadpool(_policy)
    return FileResponse(file, status, headers, kind)


@cache
def _files() -> dict[str, Path]:
    """Return the files of the site by their path; nothing else can be requested."""
    return {file.relative_to(SITE).as_posix(): file for file in SITE.rglob("*") if file.is_file()}


def _find(path: str) -> Path | None:
    files = _files()
    directory = path.rstrip("/")
    return files.get(path) or files.get(f"{directory}/index.html" if directory else "index.html")


@cache
def _policy() -> str:
    """Return the content security policy, which allows the site's own inline scripts by hash."""
    scripts = {
        script
        for name, file in _files().items()
        if name.endswith(".html")
        for script in INLINE_SCRIPT.findall(file.read_text())
    }
    digests = sorted(
        base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts
    )
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' {SEARCH_STYLE}; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
