"""Named arrays as bytes in the safetensors format: a JSON header, then raw values.

The file has eight bytes with the length of the header, the header, and the arrays, all
little-endian. It cannot contain code.
"""

import json
import math
from collections.abc import Mapping
from mmap import mmap
from typing import Any, Final

import numpy as np

from core.arrays import Array
from core.errors import FormatError

DTYPES: Final = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "|u1"}
_NAMES: Final = {np.dtype(code): name for name, code in DTYPES.items()}
HALF_DTYPES: Final = {"F16": "<f2", "BF16": "<u2"}
"""Half-precision dtypes, which are read only, as float32. That does not round."""

MAX_HEADER_BYTES: Final = 4 << 20
MAX_ARRAYS: Final = 10_000
MAX_DIMENSIONS: Final = 8


def encode(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Return arrays and metadata as bytes. Equal input gives equal bytes.

    Parameters
    ----------
    tensors
        Arrays of any shape by name.
    metadata
        Strings by name.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts, start = [], 0
    for name, tensor in tensors.items():
        part = np.ascontiguousarray(tensor).tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, start + len(part)],
        }
        parts.append(part)
        start += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def decode(data: bytes | mmap) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata. The arrays are read-only views of ``data``.

    Raises
    ------
    FormatError
        If the header is invalid, or does not match the size of ``data``.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(MAX_HEADER_BYTES, len(data) - 8):
        raise FormatError(
            f"the header must end within the file and have at most {MAX_HEADER_BYTES} bytes"
        )
    try:
        header = json.loads(data[8 : 8 + size], object_pairs_hook=_unique)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise FormatError("the metadata must be an object")
        if len(header) > MAX_ARRAYS:
            raise FormatError(f"the file has {len(header)} arrays, the maximum is {MAX_ARRAYS}")
        body = memoryview(data)[8 + size :]
        tensors = {name: _tensor(name, entry, body) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError("the header is not a valid safetensors header") from error
    return tensors, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of the header; raise FormatError if it repeats a name."""
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise FormatError("the header repeats a name")
    return unique


def _tensor(name: str, entry: Mapping[str, Any], body: memoryview) -> Array:
    """Return one array after a check of its offsets against its shape and the size of the data."""
    code = entry["dtype"]
    dtype = np.dtype(HALF_DTYPES[code] if code in HALF_DTYPES else DTYPES[code])
    shape, (start, end) = entry["shape"], entry["data_offsets"]
    if len(shape) > MAX_DIMENSIONS:
        raise FormatError(
            f"tensor {name[:80]!r} has {len(shape)} dimensions, the maximum is {MAX_DIMENSIONS}"
        )
    if any(type(size) is not int or size < 0 for size in (*shape, start, end)):
        raise FormatError(f"tensor {name[:80]!r} has an invalid shape or offset")
    if end - start != math.prod(shape) * dtype.itemsize or end > len(body):
        raise FormatError(
            f"the offsets of tensor {name[:80]!r} do not match its shape or the size of the file"
        )
    array = np.frombuffer(body[start:end], dtype).reshape(shape)
    if code == "F16":
        return array.astype(np.float32)
    if code == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
