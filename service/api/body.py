"""Bodies that are not JSON by name: read up to a limit, unpacked up to the same limit."""

import asyncio
import re
import zlib
from collections.abc import Callable
from itertools import islice
from typing import Final, TypeVar

from fastapi import Request

from service.domain.errors import (
    InvalidRequestError,
    MalformedBodyError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
from service.domain.limits import Limits

Result = TypeVar("Result")

ZLIB_WBITS: Final = {"gzip": 31, "deflate": 15}
"""zlib's window bits for each content encoding; deflate is the zlib format (RFC 9110)."""

MIN_COMPRESS_BYTES: Final = 4096
"""Bytes below which an answer is not packed: it would cost more than it saves."""

TEXT_OR: Final = {
    sign: re.compile(rb'"(?:[^"\\]|\\.)*+"|' + re.escape(sign), re.DOTALL) for sign in (b"[", b"{")
}
NPY: Final = b"\x93NUMPY"
MAX_INLINE_DECOMPRESS_BYTES: Final = 16 << 10


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body, refused as soon as it is longer than the limit."""
    check_content_length(request, limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise payload_too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_compressed_body(request: Request, limit: int) -> bytes:
    """Return the body, unpacked where it is gzip or deflate."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ZLIB_WBITS and encoding != "identity":
        raise UnsupportedMediaTypeError(f"content encoding {encoding[:40]!r} is not taken here")
    body = await read_body(request, limit)
    if encoding == "identity":
        return body
    if len(body) < MAX_INLINE_DECOMPRESS_BYTES:
        return decompress(body, ZLIB_WBITS[encoding], limit)
    return await asyncio.to_thread(decompress, body, ZLIB_WBITS[encoding], limit)


async def decode_in_thread_if_large(
    limits: Limits, body: bytes, decode: Callable[[bytes], Result]
) -> Result:
    """Return ``decode(body)``, by a thread where the body is long."""
    if len(body) <= limits.inline_bytes:
        return decode(body)
    return await asyncio.to_thread(lambda: decode(check_row_count(body, limits)))


def check_row_count(body: bytes, limits: Limits, place: str = "") -> bytes:
    """Return the body of a call, refused where it opens far more rows than a call may have.

    Decoded, a row without numbers takes fifty times what it took to write.
    """
    most = 2 * limits.rows_per_call + 1000
    start = body[:64].lstrip()
    opened = 0
    if start[:1] in {b"[", b"{"}:
        opened = max(
            count_outside_strings(body, b"[", most), count_outside_strings(body, b"{", most)
        )
    elif not start.startswith(NPY):
        opened = max(body.count(b"\n"), body.count(b"\r"))
    if opened > most:
        problem = f"a call takes at most {limits.rows_per_call} rows"
        raise InvalidRequestError.at(place, "out_of_range", problem)
    return body


def count_outside_strings(body: bytes, sign: bytes, most: int) -> int:
    """Return how often a sign stands in JSON outside its texts, up to one more than ``most``."""
    count = body.count(sign)
    if count <= most:  # with those in texts
        return count
    outside = (found for found in TEXT_OR[sign].finditer(body) if body[found.start()] == sign[0])
    return sum(1 for _ in islice(outside, most + 1))


def decompress(body: bytes, window: int, limit: int) -> bytes:
    """Return what was packed, refused as soon as it is longer than the limit."""
    unpacker = zlib.decompressobj(window)
    try:
        data = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedBodyError(f"the body cannot be unpacked: {error}") from error
    if len(data) > limit:
        raise payload_too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise MalformedBodyError("the packed body is cut short, or followed by something else")
    return data


def compress(body: bytes, accepted: str) -> tuple[bytes, str | None]:
    """Return the body as a client likes it, and its content encoding."""
    if len(body) < MIN_COMPRESS_BYTES:
        return body, None
    names = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    for encoding, window in ZLIB_WBITS.items():
        if encoding in names:
            packer = zlib.compressobj(level=1, wbits=window)
            return packer.compress(body) + packer.flush(), encoding
    return body, None


def check_content_length(request: Request, limit: int) -> None:
    """Refuse a body that says it is too long, before it is read."""
    announced = request.headers.get("content-length", "").lstrip("0")
    if announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
        raise payload_too_large(limit)


def payload_too_large(limit: int) -> PayloadTooLargeError:
    """Return the refusal of a body longer than ``limit``."""
    return PayloadTooLargeError(f"the body is longer than {limit} bytes")
