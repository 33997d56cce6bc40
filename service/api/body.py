"""Reading request bodies: media types, size limits, decompression, and leaving the event loop."""

import asyncio
import traceback
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeVar, final

from fastapi import Request

from service.domain.errors import (
    MalformedBodyError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)

Result = TypeVar("Result")

ZLIB_WBITS: Final = {"gzip": 31, "deflate": 15}
"""zlib's window bits for each content encoding; deflate is the zlib format (RFC 9110)."""

MIN_COMPRESS_BYTES: Final = 4096
"""Shorter responses are not compressed: it would cost more than it saves."""

MAX_INLINE_DECOMPRESS_BYTES: Final = 16 << 10
MAX_SMALL_BYTES: Final = 1 << 20
WINDOW: Final = 1 << 18
"""Bytes that are decompressed at once where only their number matters."""


@final
class LargeBodies:
    """Decompresses and decodes the bodies of all requests within a bound on their total size.

    A large body is decoded in a thread, because it would block the event loop, and it waits while
    others use the bound.

    Parameters
    ----------
    inline_bytes
        Smaller bodies do not count and are decoded in the event loop.
    max_bytes
        Bytes of the large bodies that are decoded at the same time. A single larger body is decoded
        alone.
    """

    def __init__(self, inline_bytes: int, max_bytes: int) -> None:
        self._inline_bytes, self._max_bytes = inline_bytes, max_bytes
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def decode(self, body: "Body", limit: int, work: Callable[[bytes], Result]) -> Result:
        """Return ``work`` of the decompressed body.

        Parameters
        ----------
        limit
            Maximum bytes of the decompressed body.

        Raises
        ------
        PayloadTooLargeError, MalformedBodyError
            If the decompressed body is too large, or cannot be decompressed.
        """
        small = self._small(body, limit)
        if small is not None:
            return work(small)
        # The decompressed size is not known before.
        size = len(body.data) if body.wbits is None else max(limit, len(body.data))
        await self._reserve(size)
        try:
            return await asyncio.to_thread(lambda: work(body.decompressed(limit)))
        except Exception as error:
            # Its frames would keep the body in memory until the response is sent.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            self._release(size)

    def _small(self, body: "Body", limit: int) -> bytes | None:
        """Return the content of a body that can be decoded in the event loop; else None."""
        if body.wbits is None:
            return body.data if len(body.data) <= self._inline_bytes else None
        if len(body.data) > MAX_INLINE_DECOMPRESS_BYTES:
            return None
        try:
            return body.decompressed(min(limit, self._inline_bytes))
        except PayloadTooLargeError:
            return None

    async def _reserve(self, size: int) -> None:
        """Wait until ``size`` bytes fit, in the order of arrival."""
        if not self._waiting and self._fits(size):
            self._used += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(size)
            raise

    def _release(self, size: int) -> None:
        """Let the bodies that wait use the bytes of one that is decoded."""
        self._used -= size
        while self._waiting and (
            self._waiting[0][1].cancelled() or self._fits(self._waiting[0][0])
        ):
            next_size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._used += next_size
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self._used or self._used + size <= self._max_bytes


class Body(NamedTuple):
    """The body of a request as it was sent.

    Attributes
    ----------
    wbits
        zlib's window bits of its compression, or None.
    """

    data: bytes
    wbits: int | None = None

    def decompressed(self, limit: int) -> bytes:
        """Return the content; raise PayloadTooLargeError as soon as it exceeds the limit."""
        return self.data if self.wbits is None else decompress(self.data, self.wbits, limit)


async def read_body(request: Request, limit: int) -> Body:
    """Return the body as sent; raise PayloadTooLargeError as soon as it exceeds the limit."""
    wbits = compression_of(request)
    check_content_length(request, limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise payload_too_large(limit)
        chunks.append(chunk)
    return Body(b"".join(chunks), wbits)


async def read_small_body(request: Request, limit: int) -> bytes:
    """Return the decompressed body of a request that is short if it is valid."""
    return (await read_body(request, limit)).decompressed(min(limit, MAX_SMALL_BYTES))


def compression_of(request: Request) -> int | None:
    """Return zlib's window bits for the content encoding of a request, or None."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return None
    if encoding not in ZLIB_WBITS:
        raise UnsupportedMediaTypeError(f"unsupported content encoding {encoding[:40]!r}")
    return ZLIB_WBITS[encoding]


def decompress(body: bytes, wbits: int, limit: int) -> bytes:
    """Return a decompressed body; raise PayloadTooLargeError as soon as it exceeds the limit."""
    decompressor = Decompressor(wbits, limit)
    if limit <= WINDOW:
        content = decompressor.feed(body)
        decompressor.finish()
        return content
    # Once to measure and once into a buffer of that size: a buffer that grows is copied, which
    # needs twice the memory.
    size = sum(map(len, decompressor.windows(body)))
    decompressor.finish()
    return zlib.decompress(body, wbits, size)


@final
class Decompressor:
    """Decompresses a body part by part; both sizes have the same limit."""

    def __init__(self, wbits: int, limit: int) -> None:
        self._decompressor, self._limit = zlib.decompressobj(wbits), limit
        self._size = 0

    def windows(self, data: bytes) -> Iterator[bytes]:
        """Yield the content of a part in windows of at most `WINDOW` bytes."""
        while data:
            yield self.feed(data, WINDOW)
            data = self._decompressor.unconsumed_tail

    def feed(self, data: bytes, window: int | None = None) -> bytes:
        """Return the content of a part; raise PayloadTooLargeError if there is too much."""
        left = self._limit - self._size + 1
        try:
            content = self._decompressor.decompress(data, min(left, window or left))
        except zlib.error as error:
            raise MalformedBodyError(f"the body cannot be decompressed: {error}") from error
        self._size += len(content)
        if self._size > self._limit:
            raise payload_too_large(self._limit)
        if self._decompressor.unused_data:
            raise MalformedBodyError("the compressed body is followed by other data")
        return content

    def finish(self) -> None:
        """Raise MalformedBodyError if the body is truncated."""
        if not self._decompressor.eof:
            raise MalformedBodyError("the compressed body is truncated")


def compress(body: bytes, accept_encoding: str) -> tuple[bytes, str | None]:
    """Return the body in an encoding that the client accepts, and the name of the encoding."""
    if len(body) < MIN_COMPRESS_BYTES:
        return body, None
    names = {part.partition(";")[0].strip().lower() for part in accept_encoding.split(",")}
    for encoding, wbits in ZLIB_WBITS.items():
        if encoding in names:
            compressor = zlib.compressobj(level=1, wbits=wbits)
            return compressor.compress(body) + compressor.flush(), encoding
    return body, None


def check_content_length(request: Request, limit: int) -> None:
    """Raise PayloadTooLargeError if the announced length exceeds the limit."""
    announced = request.headers.get("content-length", "").lstrip("0")
    if announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
        raise payload_too_large(limit)


def payload_too_large(limit: int) -> PayloadTooLargeError:
    """Return the error for a body that is longer than ``limit`` bytes."""
    return PayloadTooLargeError(f"the body exceeds {limit} bytes")


def check_json_type(content_type: str | None, also: Iterable[str] = ()) -> None:
    """Raise UnsupportedMediaTypeError unless a Content-Type is JSON in UTF-8, or missing.

    Pages of other sites can send forms and plain text without a preflight request, so it matters.

    Parameters
    ----------
    also
        Other media types that the operation accepts, for the message.
    """
    kind = "application/json" if content_type is None else content_type
    essence, _, options = (part.strip().lower() for part in kind.partition(";"))
    if essence != "application/json" and not essence.endswith("+json"):
        accepted = " or ".join(("application/json", *also))
        raise UnsupportedMediaTypeError(f"the body must be {accepted}, not {kind[:80]!r}")
    if "charset" in options and "utf-8" not in options and "utf8" not in options:
        raise UnsupportedMediaTypeError("the charset of JSON must be UTF-8")
