"""Checks and headers that every request has, on whichever adapter it arrives."""

import ipaddress
import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Final

from service.api.dependencies import Services
from service.domain.errors import ServiceError

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PROCESS_ID: Final = secrets.token_hex(12)
"""Makes the request ids of processes different; a number follows, which costs less than chance."""

_numbers = itertools.count()


class CsrfRejectedError(ServiceError):
    """A browser was led here by another site."""

    code = "csrf_rejected"


def choose_request_id(headers: Mapping[bytes, bytes]) -> str:
    """Return the client's request id if it is acceptable, or a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{PROCESS_ID}{next(_numbers):08x}"


def check_origin(services: Services | None, method: str, headers: Mapping[bytes, bytes]) -> None:
    """Raise CsrfRejectedError for requests that a page of another site made.

    Parameters
    ----------
    services
        None while the server starts.
    headers
        Names in lower case.
    """
    if _is_dns_rebinding(services, headers):
        raise CsrfRejectedError(
            "without API keys, browsers must use localhost or an IP address, not a domain name"
        )
    if method not in SAFE_METHODS and _is_from_another_site(headers):
        raise CsrfRejectedError("pages of another site cannot change anything here")


def _is_dns_rebinding(services: Services | None, headers: Mapping[bytes, bytes]) -> bool:
    """Return True if a browser uses a name that another site may have pointed here."""
    if services is None or not services.authenticator.anonymous or services.authenticator.anywhere:
        return False
    browser = b"origin" in headers or b"sec-fetch-site" in headers
    browser = browser or headers.get(b"user-agent", b"").startswith(b"Mozilla/")
    return browser and _is_domain(headers.get(b"host", b"").decode("latin-1"))


def _is_domain(host: str) -> bool:
    """Return True if a Host is a name with a dot, which somebody can own."""
    name = host.rpartition(":")[0] or host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." in name
    return False


def _is_from_another_site(headers: Mapping[bytes, bytes]) -> bool:
    """Return True if a browser says that a page of another site made the request."""
    if headers.get(b"sec-fetch-site") in {b"cross-site", b"same-site"}:
        return True
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
