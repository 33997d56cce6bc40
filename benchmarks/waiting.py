"""Wait for a server."""

import contextlib

import httpx

from tests.waiting import block_until


def wait_until_ready(client: httpx.Client) -> None:
    """Wait until the server of a client is ready, for at most 30 seconds."""

    def is_ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return client.get("/readyz").is_success
        return False

    block_until(is_ready)
