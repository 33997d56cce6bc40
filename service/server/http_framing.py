"""The framing of HTTP requests, and the errors that are sent before a request reaches the API."""

import json
import re
import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from service.api.request_checks import SECURITY_HEADERS

REASONS: Final = {
    400: ("Bad Request", "bad_request", "Bad request"),
    408: ("Request Timeout", "request_timeout", "Request timeout"),
    431: ("Request Header Fields Too Large", "headers_too_large", "Headers too large"),
}


AUTHORITY: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


class Framing(NamedTuple):
    """The framing of a request, from its headers."""

    size: int
    hosts: int
    host: bytes
    transfer_encoding: bytes
    content_length: bytes
    has_upgrade: bool


def read_framing(headers: Sequence[tuple[bytes, bytes]], last_host: bytes) -> Framing:
    """Return the framing of a request from its headers."""
    size, hosts, host, coding, length, upgrade = 0, 0, last_host, b"", b"0", False
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            hosts, host = hosts + 1, value.strip(b" \t")
        elif name == b"transfer-encoding":
            coding += value.strip(b" \t")
        elif name == b"content-length":
            length = value.strip(b" \t")
        elif name == b"upgrade":
            upgrade = True
    return Framing(size, hosts, host, coding, length, upgrade)


def error_response(status: int, detail: str) -> bytes:
    """Return a complete response whose body is a problem."""
    reason, code, title = REASONS[status]
    request_id = secrets.token_hex(16)
    problem: dict[str, Any] = {
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "",
        "code": code,
        "request_id": request_id,
    }
    body = json.dumps(problem).encode()
    headers = {
        "content-type": "application/problem+json",
        "content-length": str(len(body)),
        "x-request-id": request_id,
        **SECURITY_HEADERS,
        "cache-control": "no-store",
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {reason}\r\n{lines}\r\n".encode() + body


class _UntilClose(int):
    """A content length that every body has."""

    def __lt__(self, _: object) -> bool:
        return False

    def __sub__(self, _: object) -> "_UntilClose":
        return self

    def __ne__(self, _: object) -> bool:
        return False

    __hash__ = int.__hash__


UNTIL_CLOSE: Final = _UntilClose()


def target_problem(url: bytes, host: bytes) -> str:
    """Return the problem of a request target, or ""."""
    if b"#" in url:
        return "a request target must not have a fragment"
    if url.startswith(b"/") or url == b"*":
        return ""
    named = AUTHORITY.match(url)
    if named is None:
        return "the request target must be a path or an http URL"
    return "" if named[1].lower() == host.lower() else "request target does not match Host"
