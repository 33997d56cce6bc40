"""Routes of the native API: strict JSON bodies, and creations that can be repeated safely."""

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.api.body import Body, check_json_type, read_body
from service.api.dependencies import Services, authenticated
from service.api.idempotency import ReplayError
from service.api.strict_json import check_rows, parse_json
from service.domain.errors import MalformedBodyError, UnavailableError
from service.domain.limits import MAX_WIDTH, Limits


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
        """Return the body as it was sent, which may be compressed.

        Raises
        ------
        PayloadTooLargeError
            As soon as the body exceeds the limit.
        """
        return (await self._sent()).data

    async def json(self) -> Any:
        """Return the value of the decompressed body."""
        if not hasattr(self, "_json"):
            services: Services = self.app.state.services
            sent = await self._sent()
            self._json = await services.large_bodies.decode(sent, self._limit, self._parse)
        return self._json

    async def _sent(self) -> Body:
        if not hasattr(self, "_sent_body"):
            self._sent_body = await read_body(self, self._limit)
            self._body = self._sent_body.data  # what `stream` returns from now on
        return self._sent_body

    @property
    def _limit(self) -> int:
        limits: Limits = self.app.state.services.limits
        return limits.weights_bytes if self.has_weights else limits.json_bytes

    def _parse(self, content: bytes) -> Any:
        limits: Limits = self.app.state.services.limits
        if self.has_rows and len(content) > limits.inline_bytes:
            check_rows(content, limits, MAX_WIDTH, "/inputs")
        return parse_json(content)


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
                check_json_type(request.headers.get("content-type"))
                if not await request.body():
                    raise MalformedBodyError("a JSON body is required")
                await request.json()
            try:
                return await handle(request)
            except UnavailableError as error:
                if not await _frees_space(request, error):
                    raise
            return await handle(request)

        return handle_strictly


async def _frees_space(request: Request, error: UnavailableError) -> bool:
    """Return True if the disk was full, the request frees space, and now there is room for it."""
    frees = request.method == "DELETE" or request.url.path.endswith("/cancel")
    if error.error_code != "storage_full" or not frees:
        return False
    services: Services = request.app.state.services
    return await services.release_reserve()


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
