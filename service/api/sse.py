"""Encoding of job events as server-sent events."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final, final

from service.api.encoding import json_bytes
from service.domain.jobs import EventBatch

MAX_BATCHES: Final = 512
MAX_BYTES: Final = 16 << 20
"""Limits of the cache of encoded batches."""


def expanded(batch: EventBatch, after: int) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield the id, type and data of each event in a batch after the event ``after``."""
    if batch.type != "epoch":
        if batch.last_id > after:
            yield batch.last_id, batch.type, batch.data
        return
    names = tuple(batch.data)
    for offset, values in enumerate(zip(*batch.data.values(), strict=True)):
        if batch.first_id + offset > after:
            yield batch.first_id + offset, "epoch", dict(zip(names, values, strict=True))


def event_bytes(event_id: str | None, kind: str, data: dict[str, Any]) -> bytes:
    """Return one server-sent event; without an id if ``event_id`` is None."""
    name = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    return name + b"event: " + kind.encode() + b"\ndata: " + json_bytes(data) + b"\n\n"


@final
class EncodedEvents:
    """A cache of the latest batches, each encoded once for all subscribers."""

    def __init__(self) -> None:
        self._encoded: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._bytes = 0

    def of(self, batch: EventBatch, after: int) -> bytes:
        """Return the encoded events of a batch after the event ``after``.

        Only complete batches are cached. Partial and merged batches are for a single subscriber.
        """
        if after >= batch.first_id or "merged" in batch.data:
            return self._encode(batch, after)
        key = (batch.job_id, batch.first_id, batch.last_id)
        encoded = self._encoded.get(key)
        if encoded is None:
            encoded = self._encoded[key] = self._encode(batch, after)
            self._bytes += len(encoded)
            while len(self._encoded) > MAX_BATCHES or (
                self._bytes > MAX_BYTES and len(self._encoded) > 1
            ):
                self._bytes -= len(self._encoded.popitem(last=False)[1])
        return encoded

    @staticmethod
    def _encode(batch: EventBatch, after: int) -> bytes:
        return b"".join(
            event_bytes(str(number), kind, data) for number, kind, data in expanded(batch, after)
        )
