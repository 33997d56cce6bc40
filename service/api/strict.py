"""JSON as strictly as the contract has it, and bodies no longer than allowed."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import islice
from typing import Any, ClassVar, Final, NamedTuple, final

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.api.body import check_row_count, count_outside_strings, read_body
from service.api.dependencies import authenticated
from service.domain.errors import (
    MAX_FIELD_ERRORS,
    FieldError,
    InvalidRequestError,
    MalformedBodyError,
    UnsupportedMediaTypeError,
    pointer,
)

AFTER_KEY: Final = re.compile(rb'"[ \t\r\n]*:')
MAX_KEYS: Final = 1000
MAX_OBJECTS: Final = 10_000
MAX_LISTS: Final = 3_000_000
"""More stand in no document; each takes tens of times what it took to write."""

MAX_QUOTES: Final = 200_000
"""Where there are more, so would what is found in looking for keys."""


@final
class StrictRequest(Request):
    """A request whose body is UTF-8 JSON, without duplicate keys, NaN or Infinity.

    Attributes
    ----------
    takes_rows
        Whether the body is a call's, with no more rows than one may have.
    takes_weights
        Whether it is weights, which may be longer than other bodies.
    """

    takes_rows = takes_weights = False

    async def body(self) -> bytes:
        """Return the body, refused as soon as it is longer than the limit."""
        if not hasattr(self, "_body"):
            limits = self.app.state.services.limits
            longest = limits.weights_bytes if self.takes_weights else limits.json_bytes
            self._body = await read_body(self, longest)
        return self._body

    async def json(self) -> Any:
        """Return the document."""
        if not hasattr(self, "_json"):
            body = await self.body()
            limits = self.app.state.services.limits

            def parsed() -> Any:
                return parse_json(
                    check_row_count(body, limits, "/inputs") if self.takes_rows else body
                )

            large = len(body) > limits.inline_bytes
            self._json = await asyncio.to_thread(parsed) if large else parse_json(body)
        return self._json


class StrictRoute(APIRoute):
    """A route that reads its body as `StrictRequest` does."""

    takes_rows: ClassVar = False
    takes_weights: ClassVar = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()
        takes_json = self.body_field is not None

        async def strict(request: Request) -> Response:
            request = StrictRequest(request.scope, request.receive)
            request.takes_rows, request.takes_weights = self.takes_rows, self.takes_weights
            authenticated(request)  # before a body is read; the dependencies look at scopes
            if takes_json:
                # Read here: what FastAPI reads itself, it refuses in its own words.
                check_json_type(request)
                if not await request.body():
                    raise MalformedBodyError("a JSON body is due")
                await request.json()
            return await handle(request)

        return strict


@final
class CallRoute(StrictRoute):
    """A route whose body holds the rows of a call."""

    takes_rows = True


@final
class WeightsRoute(StrictRoute):
    """A route whose body is weights."""

    takes_weights = True


def check_json_type(request: Request, also: Iterable[str] = ()) -> None:
    """Refuse a body that says it is something else than JSON.

    A page of another site can send forms and plain text without asking; so it matters.

    Parameters
    ----------
    also
        What else the route takes, for the message.
    """
    check_encoding(request)
    kind = request.headers.get("content-type", "application/json")
    essence, _, options = (part.strip().lower() for part in kind.partition(";"))
    if essence != "application/json" and not essence.endswith("+json"):
        problem = f"the body must be {' or '.join(('application/json', *also))}, not {kind[:80]!r}"
        raise UnsupportedMediaTypeError(problem)
    if "charset" in options and "utf-8" not in options and "utf8" not in options:
        raise UnsupportedMediaTypeError("JSON is UTF-8")


def check_encoding(request: Request) -> None:
    """Refuse a packed body, whose true length nobody knows."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaTypeError(f"content encoding {encoding[:40]!r} is not taken here")


def parse_json(body: bytes, max_objects: int = MAX_OBJECTS) -> Any:
    """Return a strict JSON document.

    Raises
    ------
    MalformedBody
        When it is no JSON.
    InvalidRequest
        When it is JSON with duplicate keys or numbers that are none.
    """
    for sign, most, what in ((b"{", max_objects, "objects"), (b"[", MAX_LISTS, "lists")):
        if count_outside_strings(body, sign, most) > most:
            problem = f"a body has at most {most} {what}"
            raise InvalidRequestError.at("", "too_large", problem)
    document = _decoded(body)
    return _strictly_decoded(body) if document is None else document


def _strictly_decoded(body: bytes) -> Any:
    """Return what Python's own decoder reads, and the places of what may not stand there."""
    try:
        document = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_constant)
        field_errors = list(islice(_faults(document, ()), MAX_FIELD_ERRORS))
    except UnicodeDecodeError as error:
        raise MalformedBodyError("the body is not UTF-8") from error
    except RecursionError as error:
        raise MalformedBodyError("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        problem = f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise MalformedBodyError(problem) from error
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidRequestError.at("", "out_of_range", "a number is too long") from error
    if field_errors:
        raise InvalidRequestError(
            f"{field_errors[0].detail}, at {field_errors[0].pointer or 'the top'}", field_errors
        )
    return document


def _decoded(body: bytes) -> Any:
    """Return what a decoder ten times as fast reads; None where it might have missed something.

    It takes the last of equal keys. So keys are counted, in what it made and in what was written:
    a quote before a colon ends a key, or begins a text, and then there only seem to be more.
    """
    if body.count(b'"') > MAX_QUOTES:
        return None
    try:
        document = msgspec.json.decode(body)
        return document if _keys(document) == len(AFTER_KEY.findall(body)) else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _keys(value: Any) -> int:
    """Return how many keys a document has; a list that begins with a plain value has none."""
    if isinstance(value, dict):
        return len(value) + sum(map(_keys, value.values())) if len(value) <= MAX_KEYS else -1
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return sum(map(_keys, value))
    return 0


class _InvalidToken(NamedTuple):
    """Stands in a document for what may not stand there, until its place is known."""

    code: str
    detail: str
    key: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _InvalidToken:
    """Return the pairs as a dictionary, each key once."""
    if len(pairs) > MAX_KEYS:
        problem = f"an object has at most {MAX_KEYS} keys, this one {len(pairs)}"
        return _InvalidToken("too_many_keys", problem)
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        return _InvalidToken(
            "duplicate_key", f"the key {twice[:80]!r} stands there twice", (twice[:80],)
        )
    return found


def _constant(name: str) -> _InvalidToken:
    """Take NaN and the infinities, which JSON does not have, for flaws."""
    return _InvalidToken("not_finite", f"{name} is not a JSON number")


def _faults(value: Any, path: tuple[str | int, ...]) -> Iterator[FieldError]:
    """Yield the flaws of a document with their places."""
    if isinstance(value, _InvalidToken):
        yield FieldError(pointer(*path, *value.key), value.code, value.detail)
    elif isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(part, dict | list | _InvalidToken):
                yield from _faults(part, (*path, key))
