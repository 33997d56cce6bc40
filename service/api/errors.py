"""Errors as HTTP responses: one table from codes to statuses, one body (RFC 9457)."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from service.api.encoding import json_bytes, unescaped, uri_path
from service.api.protocols.base import InferenceProtocol
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
    "validation_failed": (422, "Validation failed"),
    "malformed_body": (400, "Malformed body"),
    "bad_request": (400, "Bad request"),
    "unauthorized": (401, "Authentication required"),
    "quota_exceeded": (403, "Quota exceeded"),
    "insufficient_scope": (403, "Insufficient scope"),
    "csrf_rejected": (403, "Cross-site request rejected"),
    "not_found": (404, "Not found"),
    "range_not_satisfiable": (416, "Range not satisfiable"),
    "request_timeout": (408, "Request timeout"),
    "headers_too_large": (431, "Headers too large"),
    "method_not_allowed": (405, "Method not allowed"),
    "not_acceptable": (406, "Not acceptable"),
    "conflict": (409, "Conflict"),
    "name_taken": (409, "Name taken"),
    "invalid_transition": (409, "Invalid transition of the job"),
    "network_in_use": (409, "Network in use"),
    "version_in_use": (409, "Version in use"),
    "dataset_in_use": (409, "Dataset in use"),
    "duplicate_job": (409, "Duplicate job"),
    "idempotency_key_in_use": (409, "Idempotency-Key in use"),
    "weights_corrupt": (409, "Corrupt weights"),
    "dataset_corrupt": (409, "Corrupt dataset"),
    "checkpoint_corrupt": (409, "Corrupt checkpoint"),
    "not_a_classifier": (409, "Not a classifier"),
    "export_differs": (409, "Export differs from the network"),
    "no_default_network": (409, "No default network is configured"),
    "precondition_failed": (412, "Precondition failed"),
    "payload_too_large": (413, "Payload too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "idempotency_key_reused": (422, "Idempotency-Key reused"),
    "rate_limited": (429, "Too many requests"),
    "queue_full": (429, "Queue full"),
    "internal_error": (500, "Internal server error"),
    "too_many_connections": (503, "Too many connections"),
    "storage_unavailable": (503, "Storage unavailable"),
    "shutting_down": (503, "Shutting down"),
    "storage_full": (507, "Storage full"),
}
"""Status and title of every error code; docs/reference/errors.md explains them."""

_CODE_BY_STATUS: Final = {404: "not_found", 405: "method_not_allowed", 400: "bad_request"}


class FieldErrorBody(BaseModel):
    """One invalid part of a request."""

    pointer: str = Field(description="JSON pointer into the body.")
    code: str
    detail: str
    row: int | None = Field(
        None,
        description="In a CSV counted from 1 below the header, otherwise from 0 as in pointers.",
    )
    column: str | int | None = Field(
        None, description="In a CSV its name, otherwise counted from 0."
    )
    parameter: str | None = Field(None, description="The query, path or header parameter.")


class Problem(BaseModel):
    """The body of every error, as application/problem+json."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable, snake_case.")
    request_id: str
    errors: list[FieldErrorBody] | None = None


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI declaration of errors with these statuses."""
    titles = dict(reversed(STATUS.values()))
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": titles[status], "content": content} for status in statuses}


COMMON_ERRORS: Final = responses(400, 401, 403, 404, 406, 409, 412, 413, 415, 422, 429, 503, 507)
CONNECTION_ERRORS: Final = responses(408, 431)
"""Errors that occur before a request reaches its route."""


class ErrorContext(NamedTuple):
    """The part of a request that the response for an error depends on.

    Attributes
    ----------
    path
        Decoded; a protocol may own the errors at it.
    """

    protocols: Sequence[InferenceProtocol]
    path: str
    request_id: str


def context_of(request: Request) -> ErrorContext:
    """Return the context of a request."""
    scope = request.scope
    return ErrorContext(request.app.state.protocols, scope["path"], scope.get("request_id", ""))


def problem(
    context: ErrorContext,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    field_errors: Sequence[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """Return the response for an error: a problem, or the form of the protocol at the path."""
    status, title = STATUS[code]
    for protocol in context.protocols:
        if protocol.owns(context.path):
            response: Response = protocol.error(status, code, detail)
            response.headers.update(headers or {})
            return response
    body: dict[str, Any] = {
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": uri_path(context.path),
        "code": code,
        "request_id": context.request_id,
        **(extra or {}),
    }
    if field_errors:
        body["errors"] = list(field_errors)
    return Response(json_bytes(body), status, headers, "application/problem+json")


def install(app: FastAPI) -> None:
    """Register the handlers of all errors."""
    app.add_exception_handler(ServiceError, _handle_service_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)


async def _handle_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for it
    return service_error(context_of(request), error)


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    return _validation_problem(context_of(request), list(error.errors()), error.body)


def service_error(context: ErrorContext, error: ServiceError) -> Response:
    """Return the response for an error of the service."""
    headers = {}
    if isinstance(error, RateLimitedError):
        headers["RateLimit-Policy"] = error.policy
        headers["RateLimit"] = f"{error.policy.partition(';')[0]};r=0;t={error.retry_after}"
    if isinstance(error, QueueFullError | RateLimitedError | UnavailableError):
        headers["Retry-After"] = str(error.retry_after)
    if error.error_code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, PayloadTooLargeError):
        headers["Connection"] = "close"  # the rest of the body is not read
    if error.error_code == "storage_full":
        headers.pop("Retry-After")  # it is unknown when there will be space
    field_errors = (
        [_field_error(item) for item in error.field_errors]
        if isinstance(error, InvalidRequestError)
        else []
    )
    code = error.error_code if error.error_code in STATUS else "validation_failed"
    return problem(
        context, code, error.detail, headers=headers, field_errors=field_errors, extra=error.extra
    )


def _field_error(error: FieldError) -> dict[str, Any]:
    where = dict(error.where)
    return {"pointer": error.pointer, "code": error.code, "detail": error.detail, **where}


def validation_error(context: ErrorContext, error: ValidationError, body: object) -> Response:
    """Return the response for a body that FastAPI did not validate itself."""
    return _validation_problem(context, list(in_body(error, body).errors()), body)


def in_body(error: ValidationError, body: object) -> RequestValidationError:
    """Return pydantic's errors about a body as FastAPI's own."""
    entries = [
        {**entry, "loc": ("body", *entry["loc"])}
        for entry in jsonable_encoder(error.errors(include_url=False, include_input=False))
    ]
    return RequestValidationError(entries, body=body)


def _validation_problem(
    context: ErrorContext, entries: Sequence[Mapping[str, Any]], body: object
) -> Response:
    """Return the response for pydantic's errors about a request."""
    field_errors = []
    for entry in entries[:MAX_FIELD_ERRORS]:
        source, *path = entry["loc"]
        error: dict[str, Any] = {"pointer": "", "code": entry["type"], "detail": _message(entry)}
        if source == "body":
            new_key = entry["type"] in {"missing", "extra_forbidden"}
            error["pointer"] = _pointer(path, body, new_key=new_key)
            if entry["type"].startswith("union_tag"):
                error["pointer"] += "/type"
        else:
            error["parameter"] = str(path[0]) if path else str(source)
        field_errors.append(error)
    field_errors = _merge_alternatives(field_errors)
    first = field_errors[0]
    at = first.get("parameter") or first["pointer"] or "the body"
    detail = f"{at}: {first['detail']}"
    return problem(context, "validation_failed", detail, field_errors=field_errors)


def _message(entry: Mapping[str, Any]) -> str:
    """Return a message, replacing pydantic's wording where it exposes internals."""
    context = entry.get("ctx", {})
    if entry["type"] == "union_tag_invalid":
        return f"unknown type {context['tag'][:80]!r}; known types are {context['expected_tags']}"
    if entry["type"] == "union_tag_not_found":
        return "a type is required"
    return str(entry["msg"]).removeprefix("Value error, ")


def _merge_alternatives(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one error for each location.

    pydantic reports an error for each alternative of a union. If the value may be a name or an
    object, an object with an invalid field is reported there alone; otherwise an error that is not
    about the type comes first.
    """
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for error in errors:
        location = (str(error.get("parameter", "")), error["pointer"])
        about_type = error["code"].endswith("_type")
        if about_type and any(other["pointer"].startswith(f"{location[1]}/") for other in errors):
            continue
        previous = merged.get(location)
        if previous is None or (previous["code"].endswith("_type") and not about_type):
            merged[location] = error
        elif previous["code"].endswith("_type") and previous["detail"] != error["detail"]:
            alternative = error["detail"].removeprefix("Input should be ")
            previous["detail"] += f", or {alternative}"
    return list(merged.values())


def _pointer(path: Sequence[str | int], body: object, *, new_key: bool) -> str:
    """Return the JSON pointer of a location; names of union members in the path are not keys."""
    keys: list[str | int] = []
    value: Any = body
    for index, key in enumerate(path):
        if isinstance(key, int):
            if not isinstance(value, list) or key >= len(value):
                continue
            value = value[key]
        elif isinstance(value, Mapping) and key in value:
            value = value[key]
        elif index < len(path) - 1 or not new_key or not isinstance(value, Mapping):
            continue
        keys.append(key)
    return pointer(*keys)


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    code = _CODE_BY_STATUS.get(error.status_code, "bad_request")
    path = unescaped(request.url.path)[:200]
    detail = {
        "not_found": f"no route matches {path!r}",
        "method_not_allowed": f"{request.method} is not allowed for {path!r}",
    }.get(code, str(error.detail))
    headers = dict(error.headers or {})
    if code == "method_not_allowed":
        headers |= await asyncio.to_thread(_allowed_methods, request)
    return problem(context_of(request), code, detail, headers=headers)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return compile_path(path)[0]


def _allowed_methods(request: Request) -> dict[str, str]:
    """Return the Allow header for the path of a request.

    Where two paths match, as ``/v1/networks/import`` and a network of that name, the one with more
    literal characters wins.
    """
    matching = {
        len(re.sub(r"{[^}]*}", "", path)): operations
        for path, operations in request.app.openapi()["paths"].items()
        if _pattern(path).match(request.url.path)
    }
    if not matching:
        return {}
    return {"Allow": ", ".join(sorted(method.upper() for method in matching[max(matching)]))}


def internal_error(context: ErrorContext) -> Response:
    """Return the response for an unexpected error, which is in the log."""
    detail = "internal error; see the server log for this request id"
    return problem(context, "internal_error", detail)
