"""The web UI: built files, with a content security policy that blocks all other scripts."""

import mimetypes
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from service.api import docs
from service.domain.errors import NotFoundError

BUILT: Final = Path(__file__).parents[1] / "web" / "dist"
"""Created by ``make web``, and included in the wheel and the image."""

POLICY: Final = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)
IMMUTABLE: Final = "public, max-age=31536000, immutable"
"""Cache policy of built files, whose names contain a digest of their content."""

router = APIRouter(include_in_schema=False)


@router.get("/")
async def get_web_ui(request: Request) -> Response:
    """Return the web UI to a browser, and the liveness status to any other client."""
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"status": "alive"})
    index = BUILT / "index.html"
    if not index.is_file():
        return docs.swagger_page()
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(index.read_bytes(), headers=headers)


@router.get("/page/assets/{name}")
async def get_web_ui_asset(name: str) -> Response:
    """Return a built file."""
    file = next((asset for asset in (BUILT / "assets").glob("*") if asset.name == name), None)
    if file is None:
        raise NotFoundError("file", name)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(file, media_type=kind, headers={"Cache-Control": IMMUTABLE})
