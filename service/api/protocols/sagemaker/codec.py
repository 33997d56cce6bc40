"""Bodies as SageMaker's clients send them: CSV without a header, JSON, JSON lines, npy."""

import io
import math
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from service.api.tabular import Rows, decoded, has_header, rows_of, rows_of_csv
from service.domain.errors import InvalidRequest

Array = npt.NDArray[Any]

CSV: Final = "text/csv"
JSON: Final = "application/json"
LINES: Final = frozenset({"application/jsonlines", "application/x-jsonlines"})
NPY: Final = "application/x-npy"
LARGEST: Final = 100_000_000
"""Numbers of an npy body, bounded before any of them is allocated."""


class _Instances(msgspec.Struct, forbid_unknown_fields=True):
    instances: msgspec.Raw


def takes(kind: str, body: bytes) -> bool:
    """Tell whether a body is SageMaker's."""
    if kind == CSV:
        return not has_header(body)
    if kind == JSON:
        text = body.lstrip()
        return text[:1] == b"[" or b'"instances"' in text
    return kind == NPY or kind in LINES


def decode(kind: str, body: bytes) -> Rows | Array:
    """Return the rows."""
    if kind == CSV:
        return rows_of_csv(body, header=False)
    if kind == NPY:
        return _npy(body)
    if kind in LINES:
        return [row for line in body.splitlines() if line.strip() for row in _line(line)]
    if body.lstrip()[:1] == b"[":
        return rows_of(body)
    return rows_of(decoded(body, _Instances).instances)


def _line(line: bytes) -> Rows:
    """Return the row of one line, or the rows that it lists as instances."""
    if b'"instances"' in line:
        return rows_of(decoded(line, _Instances).instances)
    return rows_of(b"[" + line + b"]")


def _npy(body: bytes) -> Array:
    """Return an npy file's rows; its header is looked at before anything is allocated."""
    stream = io.BytesIO(body)
    try:
        major, _ = np.lib.format.read_magic(stream)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[major](stream, max_header_size=4096)
    except (ValueError, KeyError, EOFError, SyntaxError, TypeError) as error:
        raise InvalidRequest(f"the body is no npy file: {str(error)[:200]}") from error
    size = math.prod(shape)
    if dtype.kind not in "fiub" or size > LARGEST:
        raise InvalidRequest("an npy body holds numbers, and not too many")
    if len(body) - stream.tell() != size * dtype.itemsize:
        problem = f"the header announces {size} numbers of {dtype}, the body holds others"
        raise InvalidRequest(problem)
    flat = np.frombuffer(body, dtype, offset=stream.tell())
    rows = flat.reshape(shape, order="F" if fortran else "C")
    return (rows.reshape(1, -1) if rows.ndim == 1 else rows).astype(np.float64)


def encode(outputs: Array, kind: str, accept: str) -> tuple[bytes, str]:
    """Return the answer in the accepted form, else in the form of the request."""
    accepted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    wanted = next((part for part in accepted if part in {CSV, JSON, NPY} or part in LINES), kind)
    if wanted == CSV:
        lines = (",".join(map(repr, row)) for row in outputs.tolist())
        return "".join(f"{line}\n" for line in lines).encode(), "text/csv; charset=utf-8"
    if wanted in LINES:
        return b"".join(msgspec.json.encode(row) + b"\n" for row in outputs.tolist()), wanted
    if wanted == NPY:
        stream = io.BytesIO()
        np.save(stream, outputs, allow_pickle=False)
        return stream.getvalue(), NPY
    return msgspec.json.encode({"predictions": outputs.tolist()}), JSON
