"""The lower bound: an ASGI application that reads the body and returns a fixed response."""

import os
from typing import Any

ANSWER = bytes.fromhex(os.environ.get("BARE_ANSWER", "7b7d"))
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(ANSWER)),
]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})
