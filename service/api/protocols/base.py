"""What a protocol brings to the application."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import APIRouter, Response
from pydantic import BaseModel

from service.api.hot import Array, HotCall
from service.application.inference.inference import Rows

FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": "Refused; the body says why."}
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 507)
}
"""Statuses that routes declare whose errors have no schema of their own."""

_FEWER: Final = {422: 400, 409: 400, 406: 400, 507: 503}


def error_text(status: int, _: str, detail: str) -> Response:
    """Return ``{"error": "<text>"}``, as both of KServe's protocols tell errors.

    They have fewer statuses than we; the others are the same.
    """
    body = json.dumps({"error": detail})
    return Response(body, _FEWER.get(status, status), media_type="application/json")


HotCalls = Mapping[tuple[str, str, str], HotCall]
"""Calls by the first two segments of their path and the last."""


@dataclass(frozen=True, slots=True)
class InvocationCodec:
    """How a protocol reads and writes the bodies of ``POST /invocations``, which two share.

    Attributes
    ----------
    kinds
        Media types of its bodies.
    takes
        Tells whether a body of this media type is this protocol's.
    decode
        Returns the rows of such a body.
    encode
        Returns body and media type of the answer to a request of that type and Accept header.
    """

    kinds: frozenset[str]
    takes: Callable[[str, bytes], bool]
    decode: Callable[[str, bytes], Rows]
    encode: Callable[[Array, str, str], tuple[bytes, str]]


@dataclass(frozen=True, slots=True)
class InferenceProtocol:
    """A protocol: its routes, the form of its errors, and what it answers on the hot path.

    Attributes
    ----------
    owns
        Tells whether errors at a path are this protocol's to tell.
    error
        Returns the answer for a status, a code and a sentence.
    schemas
        Bodies that codecs read, and no route declares.
    """

    router: APIRouter
    owns: Callable[[str], bool]
    error: Callable[[int, str, str], Response]
    hot: HotCalls = field(default_factory=dict)
    invocations: InvocationCodec | None = None
    schemas: tuple[type[BaseModel], ...] = ()
