"""The OpenAPI page; every asset of it is local."""

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from service.api.encoding import json_bytes
from service.api.errors import STATUS
from service.domain.errors import NotFoundError

router = APIRouter(include_in_schema=False)

POLICY: Final = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>neurond: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<style>
:root { color-scheme: light }
body { margin: 0; background: #fff }
header { font: 16px system-ui, sans-serif; padding: .8rem 20px; border-bottom: 1px solid #dde2ec }
header a { color: #1f4fd8; text-decoration: none }
</style>
</head>
<body>
<header><a href="/">← neurond</a></header>
<div id="page"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</body>
</html>
"""
START: Final = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: -1,
});
"""


def page() -> Response:
    """Return the page."""
    return Response(PAGE, 200, {"Content-Security-Policy": POLICY}, "text/html; charset=utf-8")


@router.get("/docs")
async def docs() -> Response:
    """Show the operations, and let them be tried."""
    return page()


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """Return the OpenAPI document; it takes a third of a second to make, in a thread."""
    told = getattr(request.app.state, "openapi_json", None)
    if told is None:
        told = await asyncio.to_thread(lambda: json_bytes(request.app.openapi()))
        request.app.state.openapi_json = told
    return Response(told, media_type="application/json")


@router.get("/docs/assets/start.js")
async def start() -> Response:
    """Return the few lines that start the page."""
    return Response(START, media_type="text/javascript")


@router.get("/docs/assets/{name}")
async def asset(name: str) -> Response:
    """Return a file of the page."""
    if name not in ASSETS:
        raise NotFoundError("file", name)
    path = Path(str(files("fastapi_offline"))) / "static" / name
    headers = {"Cache-Control": "public, max-age=86400"}
    return FileResponse(path, 200, headers, media_type=ASSETS[name])


@router.get("/docs/errors")
async def error_codes() -> Response:
    """List the error codes, which the type of every problem points at."""
    rows = "".join(
        f'<tr id="{code}"><td>{code}</td><td>{status}</td><td>{title}</td></tr>'
        for code, (status, title) in sorted(STATUS.items())
    )
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>neurond: errors</title>'
        "<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;"
        "max-width:60rem;margin:2rem auto;padding:0 1rem}td,th{text-align:left;"
        "padding:.2rem 1rem .2rem 0}:target{font-weight:700}</style>"
        f"<h1>Errors</h1><table><tr><th>code<th>status<th>title</tr>{rows}</table></html>"
    )
    return Response(body, 200, {"Content-Security-Policy": POLICY}, "text/html; charset=utf-8")
