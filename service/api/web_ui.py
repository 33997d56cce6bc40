"""The web page: built files, as they are, under a policy that lets nothing else run."""

import mimetypes
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from service.api import docs
from service.domain.errors import NotFoundError

BUILT: Final = Path(__file__).parents[1] / "web" / "dist"
"""Made by ``make web``; a wheel and an image hold it."""

POLICY: Final = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)
FOREVER: Final = "public, max-age=31536000, immutable"
"""The names of built files hold a digest of their bytes."""

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home(request: Request) -> Response:
    """Give a browser the page, and any other client a sign of life."""
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"status": "alive"})
    index = BUILT / "index.html"
    if not index.is_file():
        return docs.page()
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(index.read_bytes(), headers=headers)


@router.get("/page/assets/{name}")
async def asset(name: str) -> Response:
    """Give one built file."""
    file = next((built for built in (BUILT / "assets").glob("*") if built.name == name), None)
    if file is None:
        raise NotFoundError("file", name)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(file, media_type=kind, headers={"Cache-Control": FOREVER})
