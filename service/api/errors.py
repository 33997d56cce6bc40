"""Errors as HTTP: one table from codes to statuses, one body (RFC 9457)."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from service.api.encoding import json_bytes, unescaped, uri_path
from service.application.access.rate_limits import RateLimitedError
from service.domain.errors import (
    MAX_FIELD_ERRORS,
    FieldError,
    InvalidRequestError,
    PayloadTooLargeError,
    QueueFullError,
    ServiceError,
    UnavailableError,
    pointer,
)

STATUS: Final[dict[str, tuple[int, str]]] = {
    "validation_failed": (422, "The request cannot be used"),
    "malformed_body": (400, "The body cannot be read"),
    "bad_request": (400, "The request cannot be read"),
    "unauthorized": (401, "A key is due"),
    "insufficient_scope": (403, "The key may not do that"),
    "csrf_rejected": (403, "Refused for another site"),
    "not_found": (404, "Not there"),
    "request_timeout": (408, "The request took too long"),
    "headers_too_large": (431, "The head is too large"),
    "method_not_allowed": (405, "Not with this method"),
    "not_acceptable": (406, "Not available in that form"),
    "conflict": (409, "Not in the present state"),
    "name_taken": (409, "The name is taken"),
    "invalid_transition": (409, "The job is not in a state for that"),
    "network_in_use": (409, "A job is using the network"),
    "dataset_in_use": (409, "A job needs the dataset"),
    "duplicate_job": (409, "Equal work is queued or running"),
    "idempotency_key_in_use": (409, "A request with this key is still running"),
    "weights_corrupt": (409, "The weights are damaged"),
    "dataset_corrupt": (409, "The dataset is damaged"),
    "checkpoint_corrupt": (409, "The checkpoint is damaged"),
    "not_a_classifier": (409, "The network is no classifier"),
    "export_differs": (409, "The export does not agree with the network"),
    "no_default_network": (409, "It is not said which network answers"),
    "precondition_failed": (412, "It has changed since"),
    "payload_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The media type is not spoken here"),
    "idempotency_key_reused": (422, "The key came with another request"),
    "rate_limited": (429, "Too many requests"),
    "queue_full": (429, "The queue is full"),
    "internal_error": (500, "Something is broken here"),
    "storage_unavailable": (503, "Storage does not answer"),
    "shutting_down": (503, "The server is stopping"),
    "storage_full": (507, "The disk is full"),
}
"""Every code that the service tells, its status and title; docs/reference/errors.md explains."""

_CODE_BY_STATUS: Final = {404: "not_found", 405: "method_not_allowed", 400: "bad_request"}


class FieldErrorBody(BaseModel):
    """One wrong place."""

    pointer: str = Field(description="JSON pointer into the body.")
    code: str
    detail: str
    row: int | None = Field(
        None, description="Of a CSV counted from 1 below the header, else from 0 as in pointers."
    )
    column: str | int | None = Field(None, description="Of a CSV its name, else counted from 0.")
    parameter: str | None = Field(None, description="The query, path or header parameter.")


class Problem(BaseModel):
    """What every error says, as application/problem+json."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable, snake_case.")
    request_id: str
    errors: list[FieldErrorBody] | None = None


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declaration of these errors for OpenAPI."""
    titles = dict(reversed(STATUS.values()))
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": titles[status], "content": content} for status in statuses}


COMMON_ERRORS: Final = responses(400, 401, 403, 404, 406, 409, 412, 413, 415, 422, 429, 503, 507)
CONNECTION_ERRORS: Final = responses(408, 431)
"""What is told before a request reaches its route."""


def problem(
    request: Request,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    field_errors: Sequence[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """Return the answer for an error."""
    status, title = STATUS[code]
    for dialect in request.app.state.dialects:
        if dialect.owns(request.scope["path"]):
            told: Response = dialect.error(status, code, detail)
            told.headers.update(headers or {})
            return told
    body: dict[str, Any] = {
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": uri_path(request.url.path),
        "code": code,
        "request_id": request.scope.get("request_id", ""),
        **(extra or {}),
    }
    if field_errors:
        body["errors"] = list(field_errors)
    return Response(json_bytes(body), status, headers, "application/problem+json")


def install(app: FastAPI) -> None:
    """Let every error be rendered here."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for it
    headers = {}
    if isinstance(error, RateLimitedError):
        headers["RateLimit-Policy"] = error.policy
        headers["RateLimit"] = f"{error.policy.partition(';')[0]};r=0;t={error.retry_after}"
    if isinstance(error, QueueFullError | RateLimitedError | UnavailableError):
        headers["Retry-After"] = str(error.retry_after)
    if error.error_code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, PayloadTooLargeError):
        headers["Connection"] = "close"  # what is left of the body will not be read
    if isinstance(error, UnavailableError) and error.error_code == "storage_full":
        headers.pop("Retry-After")  # nobody knows when there will be room
    field_errors = (
        [_fault(field_error) for field_error in error.field_errors]
        if isinstance(error, InvalidRequestError)
        else []
    )
    code = error.error_code if error.error_code in STATUS else "validation_failed"
    return problem(
        request, code, error.detail, headers=headers, field_errors=field_errors, extra=error.extra
    )


def _fault(field_error: FieldError) -> dict[str, Any]:
    where = dict(field_error.where)
    return {
        "pointer": field_error.pointer,
        "code": field_error.code,
        "detail": field_error.detail,
        **where,
    }


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    field_errors = []
    for entry in list(error.errors())[:MAX_FIELD_ERRORS]:
        where, *path = entry["loc"]
        field_error: dict[str, Any] = {
            "pointer": "",
            "code": entry["type"],
            "detail": _worded(entry),
        }
        if where == "body":
            new_key = entry["type"] in {"missing", "extra_forbidden"}
            field_error["pointer"] = _pointer(path, error.body, new_key=new_key)
            if entry["type"].startswith("union_tag"):
                field_error["pointer"] += "/type"
        else:
            field_error["parameter"] = str(path[0]) if path else str(where)
        field_errors.append(field_error)
    field_errors = _without_other_forms(field_errors)
    first = field_errors[0]
    place = first.get("parameter") or first["pointer"] or "the body"
    return problem(
        request, "validation_failed", f"{place}: {first['detail']}", field_errors=field_errors
    )


def _worded(entry: Mapping[str, Any]) -> str:
    """Return what is wrong, in our words where the validator's tell of itself."""
    context = entry.get("ctx", {})
    if entry["type"] == "union_tag_invalid":
        return f"unknown type {context['tag'][:80]!r}; known are {context['expected_tags']}"
    if entry["type"] == "union_tag_not_found":
        return "a type is due"
    return str(entry["msg"]).removeprefix("Value error, ")


def _without_other_forms(field_errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one fault for each place.

    A value that may have several forms is told for each that it does not have. Of what may be a
    name or an object, an object with a wrong field is wrong there alone; of others, what is not
    about the form comes first.
    """
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for field_error in field_errors:
        place = (str(field_error.get("parameter", "")), field_error["pointer"])
        about_form = field_error["code"].endswith("_type")
        if about_form and any(
            other["pointer"].startswith(f"{place[1]}/") for other in field_errors
        ):
            continue
        before = kept.get(place)
        if before is None or (before["code"].endswith("_type") and not about_form):
            kept[place] = field_error
        elif before["code"].endswith("_type") and before["detail"] != field_error["detail"]:
            other = field_error["detail"].removeprefix("Input should be ")
            before["detail"] += f", or {other}"
    return list(kept.values())


def _pointer(path: Sequence[str | int], body: object, *, new_key: bool) -> str:
    """Return the JSON pointer of a place; names of union members in the path are no keys."""
    kept: list[str | int] = []
    here: Any = body
    for index, key in enumerate(path):
        if isinstance(key, int):
            if not isinstance(here, list) or key >= len(here):
                continue
            here = here[key]
        elif isinstance(here, Mapping) and key in here:
            here = here[key]
        elif index < len(path) - 1 or not new_key or not isinstance(here, Mapping):
            continue
        kept.append(key)
    return pointer(*kept)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    code = _CODE_BY_STATUS.get(error.status_code, "bad_request")
    place = unescaped(request.url.path)[:200]
    detail = {
        "not_found": f"there is nothing at {place!r}",
        "method_not_allowed": f"{request.method} is not taken at {place!r}",
    }.get(code, str(error.detail))
    headers = dict(error.headers or {})
    if code == "method_not_allowed":
        headers |= await asyncio.to_thread(_allowed, request)
    return problem(request, code, detail, headers=headers)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return compile_path(path)[0]


def _allowed(request: Request) -> dict[str, str]:
    """Return the header that tells which methods are taken where the request went.

    Where two paths fit, as ``/v1/networks/import`` and a network of that name, the one with more
    letters of its own counts.
    """
    fitting = {
        len(re.sub(r"{[^}]*}", "", path)): operations
        for path, operations in request.app.openapi()["paths"].items()
        if _pattern(path).match(request.url.path)
    }
    if not fitting:
        return {}
    return {"Allow": ", ".join(sorted(method.upper() for method in fitting[max(fitting)]))}


def internal_error(request: Request) -> Response:
    """Return the answer for a fault of our own, whose story is in the log."""
    detail = "this is a fault of the server; its log tells more under the request id"
    return problem(request, "internal_error", detail)


def describe_validation(errors: Sequence[Any], body: object) -> RequestValidationError:
    """Return pydantic's findings about a body that FastAPI did not read itself."""
    found = [{**entry, "loc": ("body", *entry["loc"])} for entry in jsonable_encoder(errors)]
    return RequestValidationError(found, body=body)
