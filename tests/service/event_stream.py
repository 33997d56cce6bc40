"""Decode event streams."""

import json

from tests.service.conftest import Json


def parse(text: str) -> list[tuple[str | None, str, Json]]:
    """Return the id, type and data of each event of a stream."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            events.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return events


def unchunked(raw: bytes) -> bytes:
    """Return the received part of a chunked body, decoded."""
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size or b"0", 16)
        body, raw = body + raw[:length], raw[length + 2 :]
    return body
