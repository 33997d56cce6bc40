"""The API documentation: Swagger UI with local assets, and the OpenAPI document."""

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

POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
SWAGGER_PAGE: Final = """<!doctype html>
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
START_SCRIPT: Final = """const safe = () => ({
  statePlugins: {
    spec: {
      wrapSelectors: {
        allowTryItOutFor: () => (state, path, method) =>
          method !== "delete" && !path.startsWith("/v1/keys"),
      },
    },
  },
});
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  tryItOutEnabled: true,
  plugins: [safe],
  displayRequestDuration: true,
  defaultModelsExpandDepth: -1,
});
"""


def swagger_page() -> Response:
    """Return the Swagger UI page."""
    return Response(
        SWAGGER_PAGE, 200, {"Content-Security-Policy": POLICY}, "text/html; charset=utf-8"
    )


@router.get("/docs")
async def get_documentation() -> Response:
    """Return the page on which every operation can be tried."""
    return swagger_page()


@router.get("/openapi.json")
async def get_openapi_document(request: Request) -> Response:
    """Return the OpenAPI document.

    It is created once, in a thread, because that takes a third of a second.
    """
    body = getattr(request.app.state, "openapi_json", None)
    if body is None:
        body = await asyncio.to_thread(lambda: json_bytes(request.app.openapi()))
        request.app.state.openapi_json = body
    return Response(body, media_type="application/json")


@router.get("/docs/assets/start.js")
async def get_start_script() -> Response:
    """Return the script that starts Swagger UI."""
    return Response(START_SCRIPT, media_type="text/javascript")


@router.get("/docs/assets/{name}")
async def get_documentation_asset(name: str) -> Response:
    """Return an asset of the Swagger UI page."""
    if name not in ASSETS:
        raise NotFoundError("file", name)
    path = Path(str(files("fastapi_offline"))) / "static" / name
    headers = {"Cache-Control": "public, max-age=86400"}
    return FileResponse(path, 200, headers, media_type=ASSETS[name])


@router.get("/docs/errors")
async def list_error_codes() -> Response:
    """Return the page of error codes; the ``type`` of every problem links to it."""
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
