"""Rate limits: requests per second for each caller, and concurrent event streams."""

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, final

from service.domain.errors import ServiceError
from service.domain.keys import Caller, Scope

BURST_SECONDS: Final = 2.0
"""Size of a bucket: the requests of this many seconds may arrive at once."""

MAX_BUCKETS: Final = 10_000
"""Maximum number of buckets; the least recently used are evicted."""

CLASSES: Final = {
    Scope.READ: "read",
    Scope.PREDICT: "predict",
    Scope.TRAIN: "write",
    Scope.ADMIN: "write",
    Scope.METRICS: "read",
}
UPLOAD: Final = "upload"
AUTH: Final = "auth"


class RateLimitedError(ServiceError):
    """The caller sends too many requests, or has too many event streams open."""

    code = "rate_limited"

    def __init__(self, detail: str, retry_after: int, policy: str) -> None:
        self.retry_after, self.policy = retry_after, policy
        super().__init__(detail)


@final
class RateLimiter:
    """Limits requests with one token bucket for each API key and class of request.

    Anonymous callers are not limited while no API key exists.

    Parameters
    ----------
    limits
        Requests per second for the classes "read", "predict", "write", "upload" and "auth". The
        class "auth" counts the requests without a valid key from each address. 0 means no limit.
    max_streams, max_streams_per_tenant
        Maximum number of concurrent event streams, in total and for each tenant.
    """

    def __init__(
        self, limits: Mapping[str, float], max_streams: int, max_streams_per_tenant: int
    ) -> None:
        self._limits = dict(limits)
        self._buckets: OrderedDict[tuple[str, str], list[float]] = OrderedDict()
        self._streams: dict[str, int] = {}
        self._max_streams, self._max_streams_per_tenant = max_streams, max_streams_per_tenant

    def acquire(self, caller: Caller, kind: str) -> None:
        """Count a request of a class.

        Raises
        ------
        RateLimitedError
            If the caller exceeds the limit of the class.
        """
        if caller.key_id is not None:
            self._acquire(caller.key_id, kind)

    def record_failure(self, address: str) -> None:
        """Count a request without a valid key from an address.

        Raises
        ------
        RateLimitedError
            If the address exceeds the limit of the class "auth".
        """
        self._acquire(address, AUTH)

    def _acquire(self, client: str, kind: str) -> None:
        rate = self._limits[kind]
        if not rate:
            return
        now = time.monotonic()
        bucket = self._buckets.setdefault((client, kind), [rate * BURST_SECONDS, now])
        self._buckets.move_to_end((client, kind))
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        tokens = min(rate * BURST_SECONDS, bucket[0] + (now - bucket[1]) * rate)
        bucket[1] = now
        if tokens < 1.0:
            bucket[0] = tokens
            wait = math.ceil((1.0 - tokens) / rate)
            policy = f'"{kind}";q={rate:g};w=1'
            raise RateLimitedError(
                f"expected at most {rate:g} {kind} requests per second; retry in {wait} s",
                wait,
                policy,
            )
        bucket[0] = tokens - 1.0

    def refund(self, caller: Caller, kind: str) -> None:
        """Return the token of a request that will be counted again."""
        bucket = self._buckets.get((caller.key_id or "", kind))
        if bucket is not None:
            bucket[0] += 1.0

    @contextmanager
    def stream(self, tenant: str) -> Iterator[None]:
        """Count an event stream of a tenant while the context is open.

        Raises
        ------
        RateLimitedError
            If the maximum number of event streams is open.
        """
        if sum(self._streams.values()) >= self._max_streams:
            detail = f"expected at most {self._max_streams} concurrent event streams"
            raise RateLimitedError(detail, 5, '"streams"')
        if self._streams.get(tenant, 0) >= self._max_streams_per_tenant:
            limit = self._max_streams_per_tenant
            detail = f"expected at most {limit} concurrent event streams per tenant"
            raise RateLimitedError(detail, 5, '"streams"')
        self._streams[tenant] = self._streams.get(tenant, 0) + 1
        try:
            yield
        finally:
            self._streams[tenant] -= 1
            if not self._streams[tenant]:
                del self._streams[tenant]

    def streams(self) -> int:
        """Return the number of open event streams."""
        return sum(self._streams.values())
