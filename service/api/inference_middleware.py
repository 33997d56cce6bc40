"""The ASGI adapter of the inference pipeline."""

import logging
from typing import Final, final

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.dependencies import address_of
from service.api.encoding import routed_path
from service.api.inference_pipeline import InferencePipeline
from service.api.protocols.base import InferenceRequest
from service.api.request_checks import OVERLOADED

log = logging.getLogger(__name__)

PENDING: Final = "neurond.inference"
"""ASGI extension: the request that the HTTP protocol has begun."""


@final
class InferenceMiddleware:
    """Handles inference operations in front of the application's own routes."""

    def __init__(self, app: ASGIApp, pipeline: InferencePipeline) -> None:
        self._app, self._pipeline = app, pipeline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request: InferenceRequest | None = scope.get("extensions", {}).get(PENDING)
        if request is None and OVERLOADED not in scope.get("extensions", {}):
            path = routed_path(scope.get("raw_path") or b"", scope["path"])
            named = dict(reversed(scope["headers"]))
            request = self._pipeline.match(path, named, address_of(scope), scope["query_string"])
        if request is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._pipeline.handle(request, Request(scope, receive))
        except ClientDisconnect:
            log.debug("POST %s: the client disconnected", request.path)
            return
        headers = [tuple(line.split(b": ", 1)) for line in response.headers.split(b"\r\n")[:-1]]
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": response.body})
