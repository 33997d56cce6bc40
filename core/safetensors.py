"""Named arrays as bytes in the safetensors format: a JSON header, then raw values.

The file has eight bytes with the length of the header, the header, and the arrays, all
little-endian. It cannot contain code.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from core.arrays import Array
from core.errors import FormatError

DTYPES: Final = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "|u1"}
_NAMES: Final = {np.dtype(code): name for name, code in DTYPES.items()}
MAX_HEADER_BYTES: Final = 1 << 24


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


def decode(data: bytes) -> tuple[dict[str, Array], dict[str, str]]:
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
        header = json.loads(data[8 : 8 + size])
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise FormatError("the metadata must be an object")
        body = memoryview(data)[8 + size :]
        tensors = {name: _tensor(name, entry, body) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError("the header is not a valid safetensors header") from error
    return tensors, metadata


def _tensor(name: str, entry: Mapping[str, Any], body: memoryview) -> Array:
    """Return one array after a check of its offsets against its shape and the size of the data."""
    dtype = np.dtype(DTYPES[entry["dtype"]])
    shape = tuple(entry["shape"])
    start, end = entry["data_offsets"]
    byte_count = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or end - start != byte_count or not 0 <= start <= end <= len(body):
        raise FormatError(
            f"the offsets of tensor {name[:80]!r} do not match its shape or the size of the file"
        )
    return np.frombuffer(body[start:end], dtype).reshape(shape)
