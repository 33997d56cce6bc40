"""Routes of the native API: strict JSON bodies, and creations that can be repeated safely."""

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.api.body import (
    check_json_type,
    check_not_compressed,
    read_body,
    run_in_thread_if_large,
)
from service.api.dependencies import authenticated
from service.api.idempotency import ReplayError
from service.api.strict_json import check_row_count, parse_json
from service.domain.errors import MalformedBodyError


@final
class StrictRequest(Request):
    """A request whose body is parsed by `parse_json`.

    Attributes
    ----------
    has_rows
        Whether the body holds the rows of a call, whose number is limited.
    has_weights
        Whether the body is a weights document, which may be longer than other bodies.
    """

    has_rows = has_weights = False

    async def body(self) -> bytes:
        """Return the body; raise PayloadTooLargeError as soon as it exceeds the limit."""
        if not hasattr(self, "_body"):
            limits = self.app.state.services.limits
            limit = limits.weights_bytes if self.has_weights else limits.json_bytes
            self._body = await read_body(self, limit)
        return self._body

    async def json(self) -> Any:
        """Return the value of the body."""
        if not hasattr(self, "_json"):
            body = await self.body()
            limits = self.app.state.services.limits

            def parse() -> Any:
                if self.has_rows and len(body) > limits.inline_bytes:
                    check_row_count(body, limits, "/inputs")
                return parse_json(body)

            self._json = await run_in_thread_if_large(limits, len(body), parse)
        return self._json


class StrictRoute(APIRoute):
    """A route whose JSON body is read by `StrictRequest`."""

    has_rows: ClassVar = False
    has_weights: ClassVar = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handle_strictly(request: Request) -> Response:
            request = StrictRequest(request.scope, request.receive)
            request.has_rows, request.has_weights = self.has_rows, self.has_weights
            authenticated(request)  # before the body is read; dependencies check the scopes
            if takes_json:
                # Read here, because FastAPI reports the errors of its own reading differently.
                check_not_compressed(request)
                check_json_type(request.headers.get("content-type"))
                if not await request.body():
                    raise MalformedBodyError("a JSON body is required")
                await request.json()
            return await handle(request)

        return handle_strictly


class IdempotentRoute(StrictRoute):
    """A route whose creations can be repeated with an Idempotency-Key; see `Creation`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            with contextlib.ExitStack() as reservation:
                request.scope["reservation"] = reservation
                try:
                    return await handle(request)
                except ReplayError as replay:
                    return replay.response

        return handle_once


@final
class RowsRoute(StrictRoute):
    """A route whose body holds the rows of a call."""

    has_rows = True


@final
class WeightsRoute(IdempotentRoute):
    """A route whose body is a weights document."""

    has_weights = True
