"""What a protocol brings to the application."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
from fastapi import APIRouter, Response
from pydantic import BaseModel

from service.api.hot import HotCall

Array = npt.NDArray[Any]
HotCalls = Mapping[tuple[str, str, str], HotCall]
"""Calls by the first two segments of their path and the last."""


@dataclass(frozen=True, slots=True)
class Invocations:
    """How a protocol reads and writes the bodies of ``POST /invocations``, which two share.

    Attributes
    ----------
    takes
        Tells whether a body of this media type is this protocol's.
    decode
        Returns the rows of such a body.
    encode
        Returns body and media type of the answer to a request of that type and Accept header.
    """

    takes: Callable[[str, bytes], bool]
    decode: Callable[[str, bytes], object]
    encode: Callable[[Array, str, str], tuple[bytes, str]]


@dataclass(frozen=True, slots=True)
class Dialect:
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
    invocations: Invocations | None = None
    schemas: tuple[type[BaseModel], ...] = ()
