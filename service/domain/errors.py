"""What the service refuses. An error carries a code, never an HTTP status.

::

    ServiceError
    ├── InvalidRequest      validation_failed   what was sent cannot be used
    │   └── MalformedBody   malformed_body      it is not what it says it is
    ├── NotFound            not_found
    ├── Conflict            conflict, name_taken, ...   the present state does not allow it
    │   └── IllegalMove     invalid_transition        a job is not in a state for that
    ├── Stale               precondition_failed If-Match names an older state
    ├── KeyReused           idempotency_key_reused
    ├── TooLarge            payload_too_large
    ├── UnsupportedFormat   unsupported_media_type, not_acceptable
    ├── Unauthorized        unauthorized        no key, or none that is known (application/access)
    ├── Forbidden           insufficient_scope  the key may not do that (application/access)
    ├── RateLimited         rate_limited        a key asks too often (application/rates)
    ├── QueueFull           queue_full
    └── Unavailable         storage_unavailable, storage_full, shutting_down
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

MAX_FIELD_ERRORS: Final = 20
"""So many wrong places are told of one request."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong place in a request.

    Attributes
    ----------
    pointer
        JSON pointer into the body.
    code
        Stable, snake_case.
    detail
        A sentence that says what is wrong and what is due.
    where
        More about the place: the row and column of a cell, the name of a parameter.
    """

    pointer: str
    code: str
    detail: str
    where: tuple[tuple[str, str | int], ...] = ()


def pointer(*path: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a path."""
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in path)


class ServiceError(Exception):
    """Root of all refusals."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, detail: str, *, code: str | None = None, **extra: Any) -> None:
        self.detail = detail
        self.error_code = code or self.code
        self.extra = extra
        super().__init__(detail)


class InvalidRequestError(ServiceError):
    """What was sent is well-formed and cannot be used."""

    code = "validation_failed"

    def __init__(
        self, detail: str, field_errors: Sequence[FieldError] = (), *, code: str | None = None
    ) -> None:
        self.field_errors = tuple(field_errors)
        super().__init__(detail, code=code)

    def under(self, *prefix: str | int) -> "InvalidRequestError":
        """Return the refusal with its places prefixed, for callers that hold the outer body."""
        start = pointer(*prefix)
        field_errors = [
            replace(field_error, pointer=start + field_error.pointer)
            for field_error in self.field_errors
        ]
        return InvalidRequestError(self.detail, field_errors, code=self.error_code)

    @classmethod
    def at(cls, place: str, code: str, detail: str) -> "InvalidRequestError":
        """Return the refusal of a single place."""
        return cls(detail, [FieldError(place, code, detail)])


class MalformedBodyError(InvalidRequestError):
    """The body is not JSON, or not what its content type says."""

    code = "malformed_body"


class NotFoundError(ServiceError):
    """Nothing of that name is there."""

    code = "not_found"

    def __init__(self, kind: str, reference: str) -> None:
        super().__init__(f"there is no {kind} {reference[:200]!r}")


class ConflictError(ServiceError):
    """The present state does not allow it."""

    code = "conflict"


class InvalidTransitionError(ConflictError):
    """A job is not in a state for that."""

    code = "invalid_transition"

    def __init__(self, action: str, status: str, allowed: Sequence[str]) -> None:
        choice = ", ".join(allowed) or "nothing"
        super().__init__(
            f"a job that is {status} cannot {action}; what it can do: {choice}",
            current_status=status,
            allowed_actions=list(allowed),
        )


class PreconditionFailedError(ServiceError):
    """If-Match names a state that is no longer the present one."""

    code = "precondition_failed"

    def __init__(self, current: str) -> None:
        super().__init__("it has changed since you read it; read it again", current_etag=current)


class IdempotencyKeyReusedError(ServiceError):
    """An Idempotency-Key came back with another request."""

    code = "idempotency_key_reused"


class PayloadTooLargeError(ServiceError):
    """More bytes than the limit."""

    code = "payload_too_large"


class UnsupportedMediaTypeError(ServiceError):
    """A media type that is not spoken here."""

    code = "unsupported_media_type"


class QueueFullError(ServiceError):
    """No more jobs are taken for now."""

    code = "queue_full"

    def __init__(self, limit: int, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"the queue holds {limit} jobs, its limit; try again later")


class UnavailableError(ServiceError):
    """Storage does not answer, is full, or the server is stopping."""

    code = "storage_unavailable"

    def __init__(self, detail: str, *, code: str | None = None, retry_after: int = 2) -> None:
        self.retry_after = retry_after
        super().__init__(detail, code=code)

    @classmethod
    def because_of(cls, error: OSError) -> "UnavailableError":
        """Return the refusal for what the file system refused."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return cls("the disk is full", code="storage_full")
        return cls(f"storage does not work: {error.strerror or error}")
