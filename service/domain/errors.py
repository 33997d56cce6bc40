"""Errors of the service. An error carries a code, never an HTTP status.

::

    ServiceError
    ├── InvalidRequestError         validation_failed       well-formed, but not valid
    │   └── MalformedBodyError      malformed_body          not what its content type says
    ├── NotFoundError               not_found
    ├── ConflictError               conflict, name_taken, ...   not possible in the current state
    │   └── InvalidTransitionError  invalid_transition      not possible in the job's status
    ├── PreconditionFailedError     precondition_failed     If-Match names an older state
    ├── IdempotencyKeyReusedError   idempotency_key_reused
    ├── PayloadTooLargeError        payload_too_large
    ├── UnsupportedMediaTypeError   unsupported_media_type
    ├── FormatNotAvailableError     not_acceptable          (application/networks)
    ├── UnauthorizedError           unauthorized            missing or unknown key
    ├── ForbiddenError              insufficient_scope      the key lacks a scope
    ├── RateLimitedError            rate_limited            too many requests
    ├── QueueFullError              queue_full
    └── UnavailableError            storage_unavailable, storage_full, shutting_down

`UnauthorizedError`, `ForbiddenError` and `RateLimitedError` are in application/access.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

MAX_FIELD_ERRORS: Final = 20
"""Maximum number of errors reported for one request."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """An invalid value in a request.

    Attributes
    ----------
    pointer
        JSON pointer to the value in the body.
    code
        Stable identifier of the error, in snake_case.
    detail
        A message: what is wrong and what was expected.
    where
        Details of the location: the row and column of a cell, or the name of a parameter.
    """

    pointer: str
    code: str
    detail: str
    where: tuple[tuple[str, str | int], ...] = ()


def pointer(*path: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a path."""
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in path)


class ServiceError(Exception):
    """Base class of the errors that clients receive."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, detail: str, *, code: str | None = None, **extra: Any) -> None:
        self.detail = detail
        self.error_code = code or self.code
        self.extra = extra
        super().__init__(detail)


class InvalidRequestError(ServiceError):
    """The request is well-formed but not valid."""

    code = "validation_failed"

    def __init__(
        self, detail: str, field_errors: Sequence[FieldError] = (), *, code: str | None = None
    ) -> None:
        self.field_errors = tuple(field_errors)
        super().__init__(detail, code=code)

    def under(self, *prefix: str | int) -> "InvalidRequestError":
        """Return the error with ``prefix`` before each pointer, for parts of a larger body."""
        start = pointer(*prefix)
        field_errors = [
            replace(field_error, pointer=start + field_error.pointer)
            for field_error in self.field_errors
        ]
        return InvalidRequestError(self.detail, field_errors, code=self.error_code)

    @classmethod
    def at(cls, location: str, code: str, detail: str) -> "InvalidRequestError":
        """Return the error for a single location, given as a JSON pointer."""
        return cls(detail, [FieldError(location, code, detail)])


class MalformedBodyError(InvalidRequestError):
    """The body is not valid JSON, or does not match its content type."""

    code = "malformed_body"


class NotFoundError(ServiceError):
    """The resource does not exist."""

    code = "not_found"

    def __init__(self, kind: str, reference: str) -> None:
        super().__init__(f"{kind} {reference[:200]!r} not found")


class ConflictError(ServiceError):
    """The current state does not allow the request."""

    code = "conflict"


class InvalidTransitionError(ConflictError):
    """The status of a job does not allow the action."""

    code = "invalid_transition"

    def __init__(self, action: str, status: str, allowed: Sequence[str]) -> None:
        choice = ", ".join(allowed) or "none"
        super().__init__(
            f"cannot {action} a job with status {status}; allowed actions: {choice}",
            current_status=status,
            allowed_actions=list(allowed),
        )


class PreconditionFailedError(ServiceError):
    """If-Match does not name the current state."""

    code = "precondition_failed"

    def __init__(self, current: str) -> None:
        super().__init__(
            "the resource has changed since it was read; read it again", current_etag=current
        )


class IdempotencyKeyReusedError(ServiceError):
    """An Idempotency-Key was reused for a different request."""

    code = "idempotency_key_reused"


class PayloadTooLargeError(ServiceError):
    """The body exceeds the size limit."""

    code = "payload_too_large"


class UnsupportedMediaTypeError(ServiceError):
    """The media type is not supported."""

    code = "unsupported_media_type"


class QueueFullError(ServiceError):
    """The job queue is full."""

    code = "queue_full"

    def __init__(self, limit: int, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"the queue has reached its limit of {limit} jobs; try again later")


class UnavailableError(ServiceError):
    """Storage is unavailable or full, or the server is stopping."""

    code = "storage_unavailable"

    def __init__(self, detail: str, *, code: str | None = None, retry_after: int = 2) -> None:
        self.retry_after = retry_after
        super().__init__(detail, code=code)

    @classmethod
    def because_of(cls, error: OSError) -> "UnavailableError":
        """Return the error for a failed file operation."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return cls("the disk is full", code="storage_full")
        return cls(f"storage failed: {error.strerror or error}")
