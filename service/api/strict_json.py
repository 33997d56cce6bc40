"""JSON parsing as strict as the contract: no duplicate keys, NaN or Infinity, and bounded."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from service.domain.errors import (
    MAX_FIELD_ERRORS,
    FieldError,
    InvalidRequestError,
    MalformedBodyError,
    pointer,
)
from service.domain.limits import Limits

AFTER_KEY: Final = re.compile(rb'"[ \t\r\n]*:')
MAX_KEYS: Final = 1000
MAX_OBJECTS: Final = 10_000
MAX_LISTS: Final = 80_000
"""Upper bounds of one body; decoded containers need tens of times the memory of their JSON."""

MAX_QUOTES: Final = 200_000
"""Above this, scanning for keys needs as much memory as the containers would."""

STRING_OR_BRACKET: Final = {
    bracket: re.compile(rb'"(?:[^"\\]|\\.)*+"|' + re.escape(bracket), re.DOTALL)
    for bracket in (b"[", b"{")
}
NPY: Final = b"\x93NUMPY"


def parse_json(body: bytes, max_objects: int = MAX_OBJECTS) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    MalformedBodyError
        If the body is not JSON.
    InvalidRequestError
        If an object has a key twice, a number is not finite, or a bound is exceeded.
    """
    for bracket, limit, name in ((b"{", max_objects, "objects"), (b"[", MAX_LISTS, "lists")):
        if count_outside_strings(body, bracket, limit) > limit:
            problem = f"the body has more than {limit} {name}; send more rows as CSV or npz"
            raise InvalidRequestError.at("", "too_large", problem)
    value = _parse_fast(body)
    return _parse_strictly(body) if value is None else value


def quoted(*keys: str) -> list[bytes]:
    """Return keys as they are written in JSON, for `check_duplicate_keys`."""
    return [b'"%s"' % key.encode() for key in keys]


def check_duplicate_keys(body: bytes, expected: Mapping[bytes, int]) -> None:
    """Raise InvalidRequestError if an object has a key twice; a decoder keeps the last value.

    The objects are inspected only if a key occurs more often than expected, or may be written with
    an escape.

    Parameters
    ----------
    expected
        For each quoted key how many objects can have it.
    """
    suspicious = b"\\" in body
    for key, limit in expected.items():
        suspicious = suspicious or body.count(key) > limit
    if suspicious:
        parse_json(body, max_objects=len(body))


def check_string_count(body: bytes, strings: int) -> None:
    """Raise InvalidRequestError if an object has a key twice; a decoder keeps the last value.

    The objects are inspected only if the body has more quotes than the decoded strings need.

    Parameters
    ----------
    strings
        Number of the decoded keys and strings.
    """
    if body.count(b'"') > 2 * strings:
        parse_json(body, max_objects=len(body))


def check_rows(body: bytes, limits: Limits, width: int, at: str = "") -> None:
    """Raise InvalidRequestError if a body has far more rows or numbers than a call may have.

    A row without numbers takes fifty times its own length when it is decoded, and a number ten
    times.

    Parameters
    ----------
    width
        Numbers of a row.
    at
        JSON pointer of the rows.
    """
    limit = 2 * limits.rows_per_call + 1000
    start = body[:64].lstrip()
    rows = 0
    if not start.startswith(NPY) and body.count(b",") > limit + limits.rows_per_call * width:
        problem = f"a call accepts at most {limits.rows_per_call} rows of {width} numbers"
        raise InvalidRequestError.at(at, "out_of_range", problem)
    if start[:1] in {b"[", b"{"}:
        rows = max(count_outside_strings(body, bracket, limit) for bracket in STRING_OR_BRACKET)
    elif not start.startswith(NPY):
        rows = max(body.count(b"\n"), body.count(b"\r"))
    if rows > limit:
        problem = f"a call accepts at most {limits.rows_per_call} rows"
        raise InvalidRequestError.at(at, "out_of_range", problem)


def count_outside_strings(body: bytes, bracket: bytes, limit: int) -> int:
    """Return how often a bracket occurs in JSON outside strings, at most ``limit + 1``."""
    count = body.count(bracket)
    if count <= limit:  # including those in strings
        return count
    matches = STRING_OR_BRACKET[bracket].finditer(body)
    outside = (match for match in matches if body[match.start()] == bracket[0])
    return sum(1 for _ in islice(outside, limit + 1))


def _parse_fast(body: bytes) -> Any:
    """Return the value that a ten times faster decoder reads, or None if it may be wrong.

    That decoder keeps the last of equal keys. So keys are counted in the value and in the text: a
    quote before a colon ends a key, or starts a string, and then there only seem to be more keys.
    """
    if body.count(b'"') > MAX_QUOTES:
        return None
    try:
        value = msgspec.json.decode(body)
        return value if _count_keys(value) == len(AFTER_KEY.findall(body)) else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _parse_strictly(body: bytes) -> Any:
    """Return the value that Python's decoder reads, or raise with the pointers of what is wrong."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_constant)
        errors = list(islice(_field_errors(value, ()), MAX_FIELD_ERRORS))
    except UnicodeDecodeError as error:
        raise MalformedBodyError("the body is not UTF-8") from error
    except RecursionError as error:
        raise MalformedBodyError("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        problem = f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise MalformedBodyError(problem) from error
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidRequestError.at("", "out_of_range", "a number is too long") from error
    if errors:
        detail = f"{errors[0].detail}, at {errors[0].pointer or 'the top level'}"
        raise InvalidRequestError(detail, errors)
    return value


def _count_keys(value: Any) -> int:
    """Return the number of keys in a value; a list that starts with a scalar has none."""
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values())) if len(value) <= MAX_KEYS else -1
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return sum(map(_count_keys, value))
    return 0


class _InvalidToken(NamedTuple):
    """Stands in a value for an invalid part until its pointer is known."""

    code: str
    detail: str
    key: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _InvalidToken:
    """Return the pairs as a dictionary if every key is unique."""
    if len(pairs) > MAX_KEYS:
        problem = f"an object has at most {MAX_KEYS} keys, got {len(pairs)}"
        return _InvalidToken("too_many_keys", problem)
    value = dict(pairs)
    if len(value) != len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0][:80]
        return _InvalidToken("duplicate_key", f"duplicate key {key!r}", (key,))
    return value


def _constant(name: str) -> _InvalidToken:
    """Return the token for NaN or an infinity, which JSON does not have."""
    return _InvalidToken("not_finite", f"{name} is not a JSON number")


def _field_errors(value: Any, path: tuple[str | int, ...]) -> Iterator[FieldError]:
    """Yield an error for each invalid token in a value."""
    if isinstance(value, _InvalidToken):
        yield FieldError(pointer(*path, *value.key), value.code, value.detail)
    elif isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(part, dict | list | _InvalidToken):
                yield from _field_errors(part, (*path, key))
