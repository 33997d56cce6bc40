"""Requests that create a resource and can be repeated safely with an Idempotency-Key."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, Self

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from service.api.dependencies import caller_of, is_upload, services_of
from service.application.access.idempotency import IdempotencyRecord, IdempotentRequests
from service.application.ports.database import UnitOfWork
from service.application.ports.repositories import StoredResponse
from service.domain.errors import InvalidRequestError
from service.domain.keys import Caller


class ReplayError(Exception):
    """Ends a request whose response is stored already."""

    def __init__(self, response: StoredResponse) -> None:
        super().__init__("the response is stored")
        self.response = replay(response)


@dataclass(frozen=True, slots=True)
class Creation:
    """Creates a resource and stores the response, in one transaction."""

    requests: IdempotentRequests
    record: IdempotencyRecord

    def with_digest(self, digest: str) -> Self:
        """Return the creation of a request whose body was digested while it was received."""
        both = hashlib.sha256(f"{self.record.fingerprint} {digest}".encode())
        return replace(self, record=replace(self.record, fingerprint=both.hexdigest()))

    async def run(self, create: Callable[[UnitOfWork], Awaitable[StoredResponse]]) -> Response:
        """Return the response of ``create``, or the stored one if another server was faster."""
        response, replayed = await self.submit(create)
        return replay(response) if replayed else _respond(response)

    async def submit(
        self, create: Callable[[UnitOfWork], Awaitable[StoredResponse]]
    ) -> tuple[StoredResponse, bool]:
        """Return the response, and True if it is the stored response of an earlier request."""
        return await self.requests.run_reserved(self.record, create)

    async def amend(self, response: StoredResponse) -> Response:
        """Return a response that replaces the stored one."""
        await self.requests.amend(self.record, response)
        return _respond(response)


async def creation_of(
    request: Request,
    caller: Annotated[Caller, Depends(caller_of)],
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=255,
            description="The same key and body return the first response again, for a day.",
        ),
    ] = None,
) -> Creation:
    """Return the creation that a request asks for; see `service.api.routing.IdempotentRoute`.

    Raises
    ------
    ReplayError
        If the response is stored.
    IdempotencyKeyReusedError
        If the key was used for a different request.
    ConflictError
        If a request with this key is still running.
    """
    requests = services_of(request).idempotent_requests
    key = None if idempotency_key is None else idempotency_key.removeprefix('"').removesuffix('"')
    if key == "":
        problem = "the Idempotency-Key is empty"
        raise InvalidRequestError.at("", "invalid_idempotency_key", problem)
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    streamed = request.url.path == "/v1/datasets" and is_upload(request)
    if key is not None and not streamed:
        digest.update(await request.body())
    record = IdempotencyRecord(caller.tenant, key, digest.hexdigest())
    request.scope["reservation"].enter_context(requests.reserve(record))
    earlier = None if streamed else await requests.stored_response(record)
    if earlier is not None:
        raise ReplayError(earlier)
    return Creation(requests, record)


Idempotent = Annotated[Creation, Depends(creation_of)]


def stored(status: int, body: BaseModel, headers: dict[str, str]) -> StoredResponse:
    """Return a response in the form in which it is stored."""
    return StoredResponse("", status, headers, body.model_dump_json().encode())


def replay(response: StoredResponse) -> Response:
    """Return a stored response again."""
    headers = {**response.headers, "Idempotency-Replayed": "true"}
    return _respond(replace(response, headers=headers))


def _respond(response: StoredResponse) -> Response:
    return Response(response.body, response.status, response.headers, "application/json")
