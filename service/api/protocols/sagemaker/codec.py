"""Bodies as SageMaker's clients send them: CSV without a header, JSON, JSON lines, npy."""

import io
from typing import Final

import msgspec
import numpy as np

from core.arrays import Array
from service.api.protocols.base import InferenceResponse
from service.api.protocols.tabular import (
    Features,
    Rows,
    decoded,
    has_header,
    rows_of,
    rows_of_csv,
)
from service.application.datasets.npz_reader import rows_of_npy

CSV: Final = "text/csv"
JSON: Final = "application/json"
LINES: Final = frozenset({"application/jsonlines", "application/x-jsonlines"})
NPY: Final = "application/x-npy"
KINDS: Final = LINES | {CSV, JSON, NPY}


class _Instances(msgspec.Struct, forbid_unknown_fields=True):
    instances: msgspec.Raw


def accepts(kind: str, body: bytes) -> bool:
    """Return True if a body is SageMaker's."""
    if kind == CSV:
        return not has_header(body)
    if kind == JSON:
        return body.lstrip()[:1] == b"[" or _keys(body) == {"instances"}
    return kind == NPY or kind in LINES


def _keys(body: bytes) -> set[str]:
    """Return the keys of a JSON object; the empty set if the body is not an object."""
    try:
        return set(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return set()


def decode(kind: str, body: bytes, features: Features) -> Rows | Array:
    """Return the rows."""
    if kind == CSV:
        header = features is not None and has_header(body, features)
        return rows_of_csv(body, header=header, features=features)
    if kind == NPY:
        return rows_of_npy(body)
    if kind in LINES:
        return [row for line in body.splitlines() if line.strip() for row in _line(line, features)]
    if body.lstrip()[:1] == b"[":
        return rows_of(body, features)
    return rows_of(decoded(body, _Instances).instances, features)


def _line(line: bytes, features: Features) -> Rows:
    """Return the row of one line, or the rows that it lists as instances."""
    if b'"instances"' in line:
        return rows_of(decoded(line, _Instances).instances, features)
    return rows_of(b"[" + line + b"]", features)


def encode(outputs: Array, kind: str, accept: str) -> InferenceResponse:
    """Return the response in the accepted form, or in the form of the request."""
    accepted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    form = next((part for part in accepted if part in {CSV, JSON, NPY} or part in LINES), kind)
    if form == CSV:
        lines = (",".join(map(repr, row)) for row in outputs.tolist())
        return _response("".join(f"{line}\n" for line in lines).encode(), "text/csv; charset=utf-8")
    if form in LINES:
        body = b"".join(msgspec.json.encode(row) + b"\n" for row in outputs.tolist())
        return _response(body, form)
    if form == NPY:
        stream = io.BytesIO()
        np.save(stream, outputs, allow_pickle=False)
        return _response(stream.getvalue(), NPY)
    return InferenceResponse(msgspec.json.encode({"predictions": outputs.tolist()}))


def _response(body: bytes, kind: str) -> InferenceResponse:
    return InferenceResponse(body, ((b"content-type", kind.encode()),))
