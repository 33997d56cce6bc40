"""Decoding of Open Inference Protocol requests into rows."""

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from core.arrays import Array
from service.api.strict_json import check_string_count
from service.application.inference.batches import Rows
from service.domain.errors import InvalidRequestError

INPUT: Final = "input"
OUTPUT: Final = "output"
LABEL: Final = "label"
DATATYPES: Final = {
    name: np.dtype(kind)
    for name, kind in {
        "BOOL": "?",
        "UINT8": "<u1",
        "UINT16": "<u2",
        "UINT32": "<u4",
        "UINT64": "<u8",
        "INT8": "<i1",
        "INT16": "<i2",
        "INT32": "<i4",
        "INT64": "<i8",
        "FP16": "<f2",
        "FP32": "<f4",
        "FP64": "<f8",
    }.items()
}
"""Accepted datatypes; BYTES is not one of them."""


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] = {}


class _OutputRequest(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[_OutputRequest] | None = None


class _PlainTensor(msgspec.Struct, gc=False):
    name: str
    shape: tuple[int, int]
    datatype: Literal["FP32", "FP64"]
    data: list[float]


class _PlainRequest(msgspec.Struct, gc=False):
    """A request for all outputs of one float tensor as JSON, as most are."""

    inputs: tuple[_PlainTensor]


class RequestedOutput(NamedTuple):
    """An output that a request asks for.

    Attributes
    ----------
    classes
        Number of best classes to return instead of the outputs, as defined by the
        classification extension. None returns the outputs.
    """

    name: str
    binary: bool
    classes: int | None = None


class TensorInput(NamedTuple):
    """A decoded request.

    Attributes
    ----------
    rows
        (batch, inputs).
    outputs
        The requested outputs; None means every output.
    binary
        True if outputs are binary by default.
    """

    id: str | None
    rows: Rows
    outputs: Sequence[RequestedOutput] | None
    binary: bool


PLAIN_QUOTES: Final = 14
"""Quotes of a plain request: five keys and two strings."""

_decode_plain = msgspec.json.Decoder(_PlainRequest).decode
_decode = msgspec.json.Decoder(_Request).decode
_FLAT: Final = {
    kind: msgspec.json.Decoder(list[type_]).decode  # type: ignore[valid-type]
    for kind, type_ in (("f", float), ("i", int), ("u", int), ("b", bool))
}
_NESTED: Final = {
    kind: msgspec.json.Decoder(list[list[type_]]).decode  # type: ignore[valid-type]
    for kind, type_ in (("f", float), ("i", int), ("u", int), ("b", bool))
}

MAX_TENSOR_ROWS: Final = 1 << 40
"""An upper bound; Python cannot format a number with thousands of digits in a message."""


def decode_request(
    body: bytes, header_length: str | None, columns: int, dtype: np.dtype[Any]
) -> TensorInput:
    """Return the decoded request.

    Parameters
    ----------
    header_length
        The header Inference-Header-Content-Length, or None.
    columns, dtype
        Inputs and type of the network.

    Raises
    ------
    InvalidRequestError
        If the request cannot be decoded; the message names the invalid part.
    """
    if header_length is None and body.count(b'"') == PLAIN_QUOTES:
        plain = _plain_rows(body, columns)
        if plain is not None:
            return TensorInput(None, plain, None, binary=False)
    length = json_length(header_length, body)
    if length == 0 and header_length is not None:
        return TensorInput(None, _raw_rows(body, columns, dtype), None, binary=True)
    text = body if length == len(body) else body[:length]
    try:
        request = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the request cannot be decoded: {error}") from error
    _check_keys(text, request)
    if len(request.inputs) != 1 or request.inputs[0].name != INPUT:
        names = ", ".join(repr(tensor.name[:80]) for tensor in request.inputs[:8]) or "none"
        raise InvalidRequestError(f"expected one input named {INPUT!r}, got {names}")
    tensor = request.inputs[0]
    rows = _rows(tensor, body[length:], columns)
    binary = _flag(request.parameters, "binary_data_output", default=False)
    requested = [output.name for output in request.outputs or ()]
    if len(set(requested)) < len(requested):
        raise InvalidRequestError("an output is requested twice")
    return TensorInput(
        request.id,
        rows,
        None
        if request.outputs is None
        else [_requested(output, binary=binary) for output in request.outputs],
        binary,
    )


def _plain_rows(body: bytes, columns: int) -> list[list[float]] | None:
    """Return the rows of a valid plain request; None for any other.

    Its five keys are required, and more quotes would be there if one occurred twice.
    """
    try:
        tensor = _decode_plain(body).inputs[0]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    count, width = tensor.shape
    data = tensor.data
    if tensor.name != INPUT or width != columns or count < 1 or len(data) != count * width:
        return None
    if count == 1:
        return [data]
    return [data[start : start + width] for start in range(0, len(data), width)]


def _check_keys(text: bytes, request: _Request) -> None:
    """Raise InvalidRequestError if an object has a key twice, also one that the decoder ignores."""
    strings = 1 if request.id is None else 3
    strings += _count_strings(request.parameters)
    for tensor in request.inputs:
        strings += 5 + bool(tensor.data) + _count_strings(tensor.parameters)
    if request.outputs is not None:
        strings += 1
        for output in request.outputs:
            strings += 2 + _count_strings(output.parameters)
    check_string_count(text, strings)


def _count_strings(parameters: dict[str, Any]) -> int:
    """Return the number of keys and strings of parameters, with their own key."""
    if not parameters:
        return 0
    return 1 + len(parameters) + sum(isinstance(value, str) for value in parameters.values())


def json_length(text: str | None, body: bytes) -> int:
    """Return the length of the JSON in a body; without the header, that of the body."""
    size = len(body)
    if text is None:
        return size
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) > size:
        problem = (
            f"Inference-Header-Content-Length must be an integer from 0 to {size}, "
            f"got {text[:20]!r}"
        )
        raise InvalidRequestError(problem)
    return int(text)


def _raw_rows(data: bytes, columns: int, dtype: np.dtype[Any]) -> Array:
    """Return the rows of a body that contains only the data of the tensor."""
    kind = np.dtype(dtype).newbyteorder("<")
    width = columns * kind.itemsize
    if not data or len(data) % width:
        problem = f"expected a multiple of {width} bytes, the size of a row, got {len(data)}"
        raise InvalidRequestError(problem)
    return np.frombuffer(data, kind).reshape(-1, columns).astype(np.float64)


def _rows(tensor: _Tensor, binary: bytes, columns: int) -> Array:
    """Return a tensor as rows."""
    if tensor.datatype not in DATATYPES:
        known = ", ".join(DATATYPES)
        problem = f"input {INPUT!r} accepts {known}; its datatype is {tensor.datatype[:40]!r}"
        raise InvalidRequestError(problem)
    shape = tensor.shape
    if len(shape) != 2 or not 1 <= shape[0] < MAX_TENSOR_ROWS or shape[1] != columns:
        in_range = all(abs(size) < MAX_TENSOR_ROWS for size in shape)
        shown = str(shape)[:80] if in_range else "a size out of range"
        problem = f"input {INPUT!r} must have the shape [-1, {columns}], got {shown}"
        raise InvalidRequestError(problem)
    data = bytes(tensor.data)
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if data:
            raise InvalidRequestError(
                f"input {INPUT!r} must not have both data and binary_data_size"
            )
        return _binary_rows(binary, size, DATATYPES[tensor.datatype], shape)
    if binary:
        raise InvalidRequestError(
            f"{len(binary)} bytes follow the JSON, but the input is not binary"
        )
    if not data:
        raise InvalidRequestError(f"input {INPUT!r} has no data")
    return _json_rows(data, tensor.datatype, shape)


def _binary_rows(data: bytes, size: object, kind: np.dtype[Any], shape: list[int]) -> Array:
    """Return the bytes that follow the JSON as rows."""
    expected = math.prod(shape) * kind.itemsize
    if type(size) is not int or size != expected:
        raise InvalidRequestError(
            f"binary_data_size of input {INPUT!r} must be {expected} for its datatype and shape"
        )
    if len(data) != expected:
        problem = f"expected {expected} bytes of binary data after the JSON, got {len(data)}"
        raise InvalidRequestError(problem)
    if kind.kind == "b" and max(data) > 1:
        raise InvalidRequestError("a BOOL must be the byte 0 or 1")
    return np.frombuffer(data, kind).reshape(shape).astype(np.float64)


def _json_rows(data: bytes, datatype: str, shape: list[int]) -> Array:
    """Return nested or flat JSON numbers as rows."""
    if datatype == "FP16":
        raise InvalidRequestError("FP16 must be sent as binary data, not as JSON")
    kind = DATATYPES[datatype]
    nested = data[1:].lstrip()[:1] == b"["
    try:
        numbers: Any = (_NESTED if nested else _FLAT)[kind.kind](data)
        array = np.array(numbers, np.float64 if kind.kind == "f" else kind)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        problem = f"the data of input {INPUT!r} do not match its datatype and shape: {error}"
        raise InvalidRequestError(problem) from error
    if array.size != math.prod(shape) or (nested and list(array.shape) != shape):
        problem = (
            f"the shape of input {INPUT!r} requires {math.prod(shape)} numbers, got {array.size}"
        )
        raise InvalidRequestError(problem)
    return array.reshape(shape).astype(np.float64)


def _requested(output: _OutputRequest, *, binary: bool) -> RequestedOutput:
    """Return a requested output."""
    classes = output.parameters.get("classification")
    if classes is not None and (type(classes) is not int or classes < 1):
        raise InvalidRequestError("classification must be an integer of at least 1")
    return RequestedOutput(
        output.name, _flag(output.parameters, "binary_data", default=binary), classes
    )


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"the parameter {name} must be true or false")
    return value


def check_outputs(outputs: Sequence[RequestedOutput], classes: list[str] | None) -> None:
    """Raise InvalidRequestError for outputs that a network with these classes does not have."""
    for output in outputs:
        if output.name == OUTPUT or (output.name == LABEL and classes and output.classes is None):
            continue
        known = repr(OUTPUT) if classes is None else f"{OUTPUT!r} and {LABEL!r}"
        raise InvalidRequestError(f"unknown output {output.name[:80]!r}; known: {known}")
