"""Checks of query strings: unknown and repeated parameters are rejected."""

from collections import Counter
from collections.abc import Collection
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi._compat import field_annotation_is_sequence
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from service.domain.errors import MAX_FIELD_ERRORS, FieldError, InvalidRequestError


async def check_query(request: Request) -> None:
    """Raise InvalidRequestError for parameters that the route does not declare, or that repeat."""
    if query := request.scope["query_string"]:
        check_query_string(query, *_parameters(request.scope["route"]))


def check_query_string(
    query: bytes, known: Collection[str] = (), repeatable: Collection[str] = ()
) -> None:
    """Raise InvalidRequestError for unknown or repeated parameters of a query string.

    Parameters
    ----------
    known
        Names of all parameters.
    repeatable
        Names of those that may have several values.
    """
    counts = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), True))  # noqa: FBT003
    problems = []
    for name, count in counts.items():
        if name not in known:
            expected = ", ".join(sorted(known)) or "none"
            problems.append((name, "unknown_parameter", f"unknown; known parameters: {expected}"))
        elif count > 1 and name not in repeatable:
            problems.append((name, "repeated_parameter", f"expected once, got {count} times"))
    if problems:
        name, _, detail = problems[0]
        message = f"query parameter {name[:80]!r}: {detail}"
        field_errors = [
            FieldError("", code, detail, (("parameter", name[:80]),))
            for name, code, detail in problems[:MAX_FIELD_ERRORS]
        ]
        raise InvalidRequestError(message, field_errors)


def _parameters(route: APIRoute) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of a route's query parameters, and of those that may repeat."""
    fields = [
        field for field in get_flat_params(route.dependant) if isinstance(field.field_info, Query)
    ]
    repeatable = (f for f in fields if field_annotation_is_sequence(f.field_info.annotation))
    return frozenset(f.alias for f in fields), frozenset(f.alias for f in repeatable)
