"""The framing of HTTP requests, and the errors that are sent before a request reaches the API."""

import json
import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

REASONS: Final = {
    400: ("Bad Request", "bad_request", "Bad request"),
    408: ("Request Timeout", "request_timeout", "Request timeout"),
    431: ("Request Header Fields Too Large", "headers_too_large", "Headers too large"),
}


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
    headers = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return headers.encode() + body
