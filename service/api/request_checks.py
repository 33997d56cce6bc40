"""Checks and headers that every request has, on whichever adapter it arrives."""

import ipaddress
import itertools
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from starlette.types import Scope

from service.api.dependencies import Services
from service.domain.errors import ServiceError, UnavailableError

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
HOST: Final = re.compile(r"(?P<name>\[[^\]]*\]|[^:]*)(:\d*)?")
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PROCESS_ID: Final = secrets.token_hex(12)
"""Makes the request ids of processes different; a number follows, which costs less than chance."""

_numbers = itertools.count()


SECURITY_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every response that does not set them itself. Pages have their own policies."""

HEALTH_PATHS: Final = frozenset(
    {"/healthz", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready"}
)
"""Health checks, which are answered under any name of the host."""

OVERLOADED: Final = "neurond.overloaded"
"""ASGI extension: the connection is beyond the limit of `NEUROND_MAX_CONNECTIONS`."""


class CsrfRejectedError(ServiceError):
    """A browser may have been led here by another site."""

    code = "csrf_rejected"


def choose_request_id(headers: Mapping[bytes, bytes]) -> str:
    """Return the client's request id if it is acceptable, or a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{PROCESS_ID}{next(_numbers):08x}"


def check_connections(scope: Scope) -> None:
    """Raise UnavailableError for a connection beyond the limit; `/healthz` is always answered."""
    if OVERLOADED in scope.get("extensions", {}) and scope["path"] != "/healthz":
        detail = "the server has too many connections; try again later"
        raise UnavailableError(detail, code="too_many_connections")


def check_origin(
    services: Services | None, method: str, headers: Mapping[bytes, bytes], path: str = ""
) -> None:
    """Raise CsrfRejectedError for requests that a page of another site may have made.

    Parameters
    ----------
    services
        None while the server starts.
    headers
        Names in lower case.
    path
        Health checks are answered under any name of the host.
    """
    if (
        services is not None
        and services.authenticator.anonymous
        and not services.authenticator.anywhere
        and not is_loopback(headers.get(b"host", b""))
        and path not in HEALTH_PATHS
    ):
        raise CsrfRejectedError(
            "without API keys the Host must be localhost or a loopback address; create a key, or "
            "set NEUROND_ALLOW_ANONYMOUS"
        )
    if method not in SAFE_METHODS and _is_from_another_site(services, headers):
        raise CsrfRejectedError("pages of another site cannot change anything here")


@lru_cache(64)
def is_loopback(host: bytes) -> bool:
    """Return True if a Host is ``localhost`` or a loopback address, with or without a port.

    Any other name may belong to a site that lets it resolve to this machine.
    """
    match = HOST.fullmatch(host.decode("latin-1").lower())
    if match is None:
        return False
    name = match["name"]
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def allows_origin(services: Services | None, headers: Mapping[bytes, bytes]) -> bool:
    """Return True if a page of an origin in `NEUROND_CORS_ORIGINS` makes the request."""
    origin = headers.get(b"origin")
    return (
        origin is not None
        and services is not None
        and origin.decode("latin-1") in services.cors_origins
    )


def _is_from_another_site(services: Services | None, headers: Mapping[bytes, bytes]) -> bool:
    """Return True if a browser says that a page of another site made the request."""
    if allows_origin(services, headers):
        return False
    if headers.get(b"sec-fetch-site") in {b"cross-site", b"same-site"}:
        return True
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
