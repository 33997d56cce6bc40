"""Reading request bodies: media types, size limits, decompression, and leaving the event loop."""

import asyncio
import zlib
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from fastapi import Request

from service.domain.errors import (
    MalformedBodyError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
from service.domain.limits import Limits

Result = TypeVar("Result")

ZLIB_WBITS: Final = {"gzip": 31, "deflate": 15}
"""zlib's window bits for each content encoding; deflate is the zlib format (RFC 9110)."""

MIN_COMPRESS_BYTES: Final = 4096
"""Shorter responses are not compressed: it would cost more than it saves."""

MAX_INLINE_DECOMPRESS_BYTES: Final = 16 << 10


async def run_in_thread_if_large(limits: Limits, size: int, work: Callable[[], Result]) -> Result:
    """Return ``work()``, run in a thread if the body it handles is too large for the event loop."""
    return work() if size <= limits.inline_bytes else await asyncio.to_thread(work)


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body; raise PayloadTooLargeError as soon as it exceeds the limit."""
    check_content_length(request, limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise payload_too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_compressed_body(request: Request, limit: int) -> bytes:
    """Return the body, decompressed if it is gzip or deflate; the limit applies to both sizes."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ZLIB_WBITS and encoding != "identity":
        raise UnsupportedMediaTypeError(f"unsupported content encoding {encoding[:40]!r}")
    body = await read_body(request, limit)
    if encoding == "identity":
        return body
    if len(body) < MAX_INLINE_DECOMPRESS_BYTES:
        return decompress(body, ZLIB_WBITS[encoding], limit)
    return await asyncio.to_thread(decompress, body, ZLIB_WBITS[encoding], limit)


def decompress(body: bytes, wbits: int, limit: int) -> bytes:
    """Return a decompressed body; raise PayloadTooLargeError as soon as it exceeds the limit."""
    decompressor = zlib.decompressobj(wbits)
    try:
        data = decompressor.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedBodyError(f"the body cannot be decompressed: {error}") from error
    if len(data) > limit:
        raise payload_too_large(limit)
    if not decompressor.eof or decompressor.unused_data:
        raise MalformedBodyError("the compressed body is truncated or followed by other data")
    return data


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


def check_not_compressed(request: Request) -> None:
    """Raise UnsupportedMediaTypeError if the body is compressed."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaTypeError(f"unsupported content encoding {encoding[:40]!r}")
