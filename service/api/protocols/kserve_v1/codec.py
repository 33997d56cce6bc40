"""Requests of the protocol as rows, and outputs as its answers."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from service.api.hot import Array
from service.api.protocols.tabular import check_duplicate_keys
from service.domain.errors import InvalidRequestError

INPUT: Final = "input"
OUTPUT: Final = "output"
SIGNATURE: Final = "serving_default"


class _Predict(msgspec.Struct, forbid_unknown_fields=True):
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    signature_name: str = SIGNATURE


class _Examples(msgspec.Struct, forbid_unknown_fields=True):
    examples: list[dict[str, list[float] | float]]
    context: dict[str, list[float] | float] = {}
    signature_name: str = SIGNATURE


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    input: list[float]


class _NamedRows(msgspec.Struct, forbid_unknown_fields=True):
    input: list[list[float]]


ONCE: Final = dict.fromkeys(("context", "examples", "inputs", "instances", "signature_name"), 1)

_predict = msgspec.json.Decoder(_Predict).decode
_examples = msgspec.json.Decoder(_Examples).decode
_rows = msgspec.json.Decoder(list[list[float]]).decode
_named = msgspec.json.Decoder(list[_Named]).decode
_named_rows = msgspec.json.Decoder(_NamedRows).decode


@dataclass(frozen=True, slots=True)
class InstancesInput:
    """Rows, and whether they came in the column form, which is answered in kind."""

    rows: list[list[float]]
    columnar: bool


def decode_predict(body: bytes) -> InstancesInput:
    """Return the rows of a predict request: ``instances`` (row form) or ``inputs`` (columns)."""
    try:
        request = _predict(body)
        _check_signature(request.signature_name)
        if isinstance(request.instances, msgspec.Raw) == isinstance(request.inputs, msgspec.Raw):
            raise InvalidRequestError("exactly one of instances and inputs is due")
        if isinstance(request.inputs, msgspec.Raw):
            check_duplicate_keys(body, {**ONCE, INPUT: 1})
            data = bytes(request.inputs).lstrip()
            return InstancesInput(
                _named_rows(data).input if data[:1] == b"{" else _rows(data), columnar=True
            )
        data = bytes(request.instances)  # type: ignore[arg-type]
        objects = data.lstrip()[1:].lstrip()[:1] == b"{"
        rows = [example.input for example in _named(data)] if objects else _rows(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the request cannot be read: {error}") from error
    check_duplicate_keys(body, {**ONCE, INPUT: len(rows)})
    return InstancesInput(rows, columnar=False)


def decode_examples(body: bytes) -> list[Any]:
    """Return the rows of a classify or regress request."""
    try:
        request = _examples(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the request cannot be read: {error}") from error
    check_duplicate_keys(body, {**ONCE, INPUT: 1 + len(request.examples)})
    _check_signature(request.signature_name)
    rows = []
    for index, example in enumerate(request.examples):
        features = {**request.context, **example}
        if set(features) != {INPUT}:
            problem = f"example {index} must hold the feature {INPUT!r} and no other"
            raise InvalidRequestError(problem)
        value = features[INPUT]
        rows.append(value if isinstance(value, list) else [value])
    return rows


def _check_signature(name: str) -> None:
    if name != SIGNATURE:
        raise InvalidRequestError(f"the signature is {SIGNATURE!r}, there is no {name[:80]!r}")


def encode_predict(outputs: Array, *, columnar: bool) -> bytes:
    """Return the answer to a predict request."""
    key = "outputs" if columnar else "predictions"
    return msgspec.json.encode({key: outputs.tolist()})


def encode_classify(probabilities: Array, labels: list[str]) -> bytes:
    """Return each row's classes with their scores, best first."""
    order = np.argsort(-probabilities, axis=1, kind="stable").tolist()
    results = [
        [(labels[index], row[index]) for index in best]
        for best, row in zip(order, probabilities.tolist(), strict=True)
    ]
    return msgspec.json.encode({"results": results})


def encode_regress(outputs: Array) -> bytes:
    """Return the one number of each row."""
    if outputs.shape[1] != 1:
        problem = f"regress takes a network with one output, this one has {outputs.shape[1]}"
        raise InvalidRequestError(problem)
    return msgspec.json.encode({"results": outputs[:, 0].tolist()})
