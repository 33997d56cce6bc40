"""How much one caller may ask: requests a second, and streams at a time."""

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, final

from service.domain.errors import ServiceError
from service.domain.keys import Caller, Scope

BURST_SECONDS: Final = 2.0
"""A caller that was quiet may ask for so many seconds' worth at once."""

MAX_BUCKETS: Final = 10_000
"""Buckets of so many callers; those who were quiet longest are forgotten."""

CLASSES: Final = {
    Scope.READ: "read",
    Scope.PREDICT: "predict",
    Scope.TRAIN: "write",
    Scope.ADMIN: "write",
}
UPLOAD: Final = "upload"
AUTH: Final = "auth"


class RateLimitedError(ServiceError):
    """The caller asks too often, or follows too many streams."""

    code = "rate_limited"

    def __init__(self, detail: str, retry_after: int, policy: str) -> None:
        self.retry_after, self.policy = retry_after, policy
        super().__init__(detail)


@final
class RateLimiter:
    """Token buckets (one a key and class), filled as time passes.

    Parameters
    ----------
    limits
        Requests a second for "read", "predict", "write", "upload" and "auth", which are those
        without a valid key, of one address; 0 is no limit. Where there is no key there is none:
        callers are on this machine.
    streams, streams_each
        Event streams at a time, in all and for one caller.
    """

    def __init__(self, limits: Mapping[str, float], streams: int, streams_each: int) -> None:
        self._limits = dict(limits)
        self._buckets: OrderedDict[tuple[str, str], list[float]] = OrderedDict()
        self._streams: dict[str, int] = {}
        self._most, self._most_each = streams, streams_each

    def acquire(self, caller: Caller, kind: str) -> None:
        """Count a request of a class.

        Raises
        ------
        RateLimited
            Naming the limit, and when there is room again.
        """
        if caller.key_id is not None:
            self._acquire(caller.key_id, kind)

    def record_failure(self, address: str) -> None:
        """Count a request without a valid key; those with one, of the same address, are not.

        Raises
        ------
        RateLimited
            As `take` does.
        """
        self._acquire(address, AUTH)

    def _acquire(self, who: str, kind: str) -> None:
        rate = self._limits[kind]
        if not rate:
            return
        now = time.monotonic()
        bucket = self._buckets.setdefault((who, kind), [rate * BURST_SECONDS, now])
        self._buckets.move_to_end((who, kind))
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        tokens = min(rate * BURST_SECONDS, bucket[0] + (now - bucket[1]) * rate)
        bucket[1] = now
        if tokens < 1.0:
            bucket[0] = tokens
            wait = math.ceil((1.0 - tokens) / rate)
            policy = f'"{kind}";q={rate:g};w=1'
            raise RateLimitedError(f"at most {rate:g} {kind} requests a second", wait, policy)
        bucket[0] = tokens - 1.0

    def refund(self, caller: Caller, kind: str) -> None:
        """Forget a request that will be counted again."""
        bucket = self._buckets.get((caller.key_id or "", kind))
        if bucket is not None:
            bucket[0] += 1.0

    @contextmanager
    def stream(self, tenant: str) -> Iterator[None]:
        """Hold a place for an event stream."""
        if sum(self._streams.values()) >= self._most:
            raise RateLimitedError(f"at most {self._most} event streams at a time", 5, '"streams"')
        if self._streams.get(tenant, 0) >= self._most_each:
            detail = f"a tenant follows at most {self._most_each} event streams at a time"
            raise RateLimitedError(detail, 5, '"streams"')
        self._streams[tenant] = self._streams.get(tenant, 0) + 1
        try:
            yield
        finally:
            self._streams[tenant] -= 1
            if not self._streams[tenant]:
                del self._streams[tenant]

    def streams(self) -> int:
        """Return how many streams there are."""
        return sum(self._streams.values())
