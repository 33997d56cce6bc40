"""Outputs to responses of the Open Inference Protocol."""

import struct
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np

from core.arrays import Array
from service.api.protocols.open_inference.decoding import (
    LABEL,
    OUTPUT,
    RequestedOutput,
    TensorInput,
)
from service.application.inference.predictions import probabilities_of

FLOAT_NAMES: Final = {np.dtype("float32"): "FP32", np.dtype("float64"): "FP64"}


class _Output(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class _Response(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    model_name: str
    model_version: str
    outputs: list[_Output]
    id: str | msgspec.UnsetType = msgspec.UNSET


_BINARY_OUTPUTS: Final = (
    RequestedOutput(OUTPUT, binary=True),
    RequestedOutput(LABEL, binary=True),
)
_encode = msgspec.json.Encoder().encode


def encode_response(
    request: TensorInput, model: tuple[str, str], outputs: Array, classes: list[str] | None
) -> tuple[bytes, int | None]:
    """Return the body of the response, and the length of its JSON if binary data follow.

    Parameters
    ----------
    model
        Name and version of the model.
    outputs
        (batch, units)
    classes
        Names of the classes; None for a network that is not a classifier.
    """
    identity = msgspec.UNSET if request.id is None else request.id
    requested = request.outputs
    if requested is None and not request.binary:
        return _encode(_Response(*model, _plain_outputs(outputs, classes), identity)), None
    if requested is None:
        requested = _BINARY_OUTPUTS[: 1 if classes is None else 2]
    encoded, tail = [], []
    for output in requested:
        datatype, shape, values = _values(output, outputs, classes)
        if not output.binary:
            listed = values if isinstance(values, list) else values.ravel().tolist()
            encoded.append(_Output(output.name, datatype, shape, listed))
            continue
        data = _packed(values)
        tail.append(data)
        encoded.append(
            _Output(output.name, datatype, shape, parameters={"binary_data_size": len(data)})
        )
    head = _encode(_Response(*model, encoded, identity))
    return (head, None) if not tail else (b"".join([head, *tail]), len(head))


def _plain_outputs(outputs: Array, classes: list[str] | None) -> list[_Output]:
    """Return all outputs as JSON."""
    rows = outputs.tolist()
    values = rows[0] if len(rows) == 1 else [*chain.from_iterable(rows)]
    encoded = [_Output(OUTPUT, FLOAT_NAMES[outputs.dtype], [*outputs.shape], values)]
    if classes is not None:
        labels = [classes[index] for index in best_classes(rows)]
        encoded.append(_Output(LABEL, "BYTES", [len(rows)], labels))
    return encoded


def _values(
    requested: RequestedOutput, outputs: Array, classes: list[str] | None
) -> tuple[str, list[int], Array | list[str]]:
    """Return datatype, shape and values of one output."""
    if requested.name == OUTPUT and requested.classes is None:
        return FLOAT_NAMES[outputs.dtype], list(outputs.shape), outputs
    if requested.name == OUTPUT and requested.classes is not None:
        if classes is not None:
            outputs = probabilities_of(outputs)
        count = min(requested.classes, outputs.shape[1])
        order = np.argsort(-outputs, axis=1, kind="stable")[:, :count]
        named = classes if classes is not None and len(classes) == outputs.shape[1] else None
        values = [
            f"{outputs[row, at]}:{at}" + ("" if named is None else f":{named[at]}")
            for row, best in enumerate(order.tolist())
            for at in best
        ]
        return "BYTES", [len(outputs), count], values
    names = classes or []
    return "BYTES", [len(outputs)], [names[index] for index in best_classes(outputs.tolist())]


def best_classes(rows: list[list[float]]) -> list[int]:
    """Return the most probable class of each row; one sigmoid unit has two classes."""
    if rows and len(rows[0]) == 1:
        return [int(p > 0.5) for (p,) in rows]
    return [row.index(max(row)) for row in rows]


def _packed(values: Array | list[str]) -> bytes:
    """Return values as in the binary extension: little-endian, row-major."""
    if not isinstance(values, list):
        return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
    encoded = [text.encode() for text in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
