"""The interface of an inference protocol: its operations, routes and errors."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Response
from opentelemetry.trace import Span
from pydantic import BaseModel

from core.arrays import Array
from service.api.dependencies import Services
from service.api.strict_json import check_rows
from service.application.inference.batches import Rows
from service.application.inference.loaded_model import LoadedModel
from service.domain.keys import Caller
from service.domain.limits import Limits

Headers = tuple[tuple[bytes, bytes], ...]
"""Names, in lower case, and values of the headers of a response."""

JSON: Final[Headers] = ((b"content-type", b"application/json"),)


class InferenceResponse(NamedTuple):
    """A response without the headers that are added to every response."""

    body: bytes
    headers: Headers = JSON
    status: int = 200


class Call(NamedTuple):
    """The rows of a request, and a function that encodes their outputs, (rows, units)."""

    rows: Rows
    encode: Callable[[Array], InferenceResponse]


@dataclass(slots=True)
class InferenceRequest:
    """A request for an inference operation.

    Attributes
    ----------
    network, version
        References in the path. None means the default network, and its default version.
    headers
        Names in lower case. If a header is repeated, the first value.
    address
        Address of the client; empty for a Unix socket.
    started
        Start time, from `time.perf_counter`.
    caller
        None until the request is authenticated.
    lookup
        Id of the network whose tenant the admin acts for.
    rejection
        Why the request is rejected before its body is read.
    query
        The query string; no operation has parameters.
    body
        The decompressed body.
    decoding
        Duration of decoding the body, in nanoseconds.
    """

    operation: "Operation"
    network: str | None
    version: str | None
    path: str
    headers: Mapping[bytes, bytes]
    address: str
    id: str
    started: float
    caller: Caller | None = None
    lookup: str | None = None
    rejection: Exception | None = None
    span: Span | None = None
    query: bytes = b""
    body: bytes = b""
    decoding: int = 0

    def header(self, name: bytes) -> str | None:
        """Return the value of a header."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def check_large_rows(limits: Limits, model: LoadedModel, request: InferenceRequest) -> None:
    """Raise InvalidRequestError if a large body has far more rows than a call may have."""
    check_rows(request.body, limits, model.forward.inputs)


@dataclass(frozen=True, slots=True)
class Operation:
    """An inference operation: its path and its codec.

    Attributes
    ----------
    path
        Path template. Its first parameter is the network, its second the version.
    decode
        Returns the call of a request, or raises a ServiceError or a pydantic ValidationError.
    limit
        Name of the setting in `Limits` that bounds the body.
    check_large
        Raises InvalidRequestError if decoding a large body would use too much memory.
    check_model
        Raises a ServiceError if the protocol must not use the model.
    """

    path: str
    decode: Callable[[InferenceRequest, LoadedModel], Call]
    limit: str = "inference_bytes"
    check_large: Callable[[Limits, LoadedModel, InferenceRequest], None] = check_large_rows
    check_model: Callable[[Services, LoadedModel, str], None] | None = None


@dataclass(frozen=True, slots=True)
class InvocationCodec:
    """The codec of a protocol for ``POST /invocations``, which two protocols share.

    Attributes
    ----------
    kinds
        Media types of the bodies.
    accepts
        Returns True if a body of this media type belongs to the protocol.
    decode
        Returns the rows of such a body, for a network with these features.
    encode
        Returns the response for the outputs, (rows, units), the media type of the request and its
        Accept header.
    """

    kinds: frozenset[str]
    accepts: Callable[[str, bytes], bool]
    decode: Callable[[str, bytes, Sequence[str] | None], Rows]
    encode: Callable[[Array, str, str], InferenceResponse]


@dataclass(frozen=True, slots=True)
class InferenceProtocol:
    """A third-party inference protocol.

    Attributes
    ----------
    router
        Routes that are not operations, and declarations of the operations for OpenAPI.
    owns
        Returns True if errors at a path have the protocol's form.
    error
        Returns the response for a status, a code and a detail.
    schemas
        Schemas of bodies that no route declares.
    """

    router: APIRouter
    owns: Callable[[str], bool]
    error: Callable[[int, str, str], Response]
    operations: Sequence[Operation] = ()
    invocations: InvocationCodec | None = None
    schemas: Sequence[type[BaseModel]] = field(default=())


FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": "An error, described in the body."}
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 507)
}
"""Error statuses of routes whose protocol has no error schema."""

_KSERVE_STATUS: Final = {422: 400, 409: 400, 406: 400, 507: 503}


def error_text(status: int, _: str, detail: str) -> Response:
    """Return ``{"error": detail}``, the form of both of KServe's protocols.

    These protocols use fewer statuses than the native API.
    """
    body = json.dumps({"error": detail})
    return Response(body, _KSERVE_STATUS.get(status, status), media_type="application/json")


def answered_by_pipeline(*_: object) -> Response:
    """Stand in for a route that only declares an operation; the pipeline answers it."""
    raise NotImplementedError
