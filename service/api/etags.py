"""ETags: what they are made of, and the conditions over them."""

import hashlib
from collections.abc import Callable

from service.domain.errors import PreconditionFailedError
from service.domain.networks import NetworkRecord


def network_etag(network: NetworkRecord) -> str:
    """Return the tag of a network's present state."""
    return f'"{network.id[-10:]}.{network.revision}"'


def content_etag(body: bytes) -> str:
    """Return the tag of these very bytes."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(condition: str | None, etag: str) -> bool:
    """Tell whether a list of tags, or ``*``, names this one; weak tags count."""
    if condition is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in condition.split(",")}
    return "*" in tags or etag in tags


def unless_stale(condition: str | None, *also: str) -> Callable[[NetworkRecord], None]:
    """Return a check that raises Stale when If-Match names neither the network nor ``also``."""

    def check(network: NetworkRecord) -> None:
        etag = network_etag(network)
        if condition is not None and not any(matches(condition, tag) for tag in (etag, *also)):
            raise PreconditionFailedError(etag)

    return check
