"""ETags and conditional requests (RFC 9110)."""

import hashlib
from collections.abc import Callable

from service.domain.errors import PreconditionFailedError
from service.domain.networks import NetworkRecord


def network_etag(network: NetworkRecord) -> str:
    """Return the ETag of a network, which changes with every revision."""
    return f'"{network.id[-10:]}.{network.revision}"'


def content_etag(body: bytes) -> str:
    """Return the ETag of a body: a digest of its bytes."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(condition: str | None, etag: str) -> bool:
    """Return True if a condition lists the ETag, or is ``*``; weak tags match too."""
    if condition is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in condition.split(",")}
    return "*" in tags or etag in tags


def unless_stale(condition: str | None, *also: str) -> Callable[[NetworkRecord], None]:
    """Return a check that a network matches If-Match.

    The check raises PreconditionFailedError if the condition lists neither the ETag of the network
    nor any of ``also``.
    """

    def check(network: NetworkRecord) -> None:
        etag = network_etag(network)
        if condition is not None and not any(matches(condition, tag) for tag in (etag, *also)):
            raise PreconditionFailedError(etag)

    return check
