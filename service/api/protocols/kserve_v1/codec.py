"""Bodies of KServe V1 and TensorFlow Serving: requests to rows, outputs to responses."""

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec
import numpy as np

from core.arrays import Array
from service.api.protocols.base import Call, InferenceRequest, InferenceResponse
from service.api.protocols.tabular import NAMED_LIST, rows_of_records
from service.api.strict_json import check_duplicate_keys, quoted
from service.application.inference.loaded_model import LoadedModel
from service.application.inference.predictions import class_names_of, probabilities_of
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


ONCE: Final = dict.fromkeys(
    quoted("context", "examples", "inputs", "instances", "signature_name"), 1
)
(QUOTED_INPUT,) = quoted(INPUT)

_predict = msgspec.json.Decoder(_Predict).decode
_examples = msgspec.json.Decoder(_Examples).decode
_rows = msgspec.json.Decoder(list[list[float]]).decode
_named = msgspec.json.Decoder(list[_Named]).decode
_named_rows = msgspec.json.Decoder(_NamedRows).decode


class InstancesInput(NamedTuple):
    """Rows, and whether they have the column form, in which the response is then given."""

    rows: list[list[float]]
    columnar: bool


def decode_predict(request: InferenceRequest, model: LoadedModel) -> Call:
    """Return the call of a predict request: ``instances`` (row form) or ``inputs`` (columns)."""
    rows, columnar = _instances(request.body, model.network.feature_names)
    return Call(rows, partial(_encode_predict, "outputs" if columnar else "predictions"))


def decode_classify(request: InferenceRequest, model: LoadedModel) -> Call:
    """Return the call of a classify request."""
    return Call(_rows_of_examples(request.body), partial(_encode_classify, class_names_of(model)))


def decode_regress(request: InferenceRequest, _: LoadedModel) -> Call:
    """Return the call of a regress request."""
    return Call(_rows_of_examples(request.body), _encode_regress)


def _instances(body: bytes, features: Sequence[str] | None) -> InstancesInput:
    try:
        request = _predict(body)
        _check_signature(request.signature_name)
        if isinstance(request.instances, msgspec.Raw) == isinstance(request.inputs, msgspec.Raw):
            raise InvalidRequestError("exactly one of instances and inputs is required")
        if isinstance(request.inputs, msgspec.Raw):
            check_duplicate_keys(body, {**ONCE, QUOTED_INPUT: 1})
            data = bytes(request.inputs).lstrip()
            return InstancesInput(
                _named_rows(data).input if data[:1] == b"{" else _rows(data), columnar=True
            )
        data = bytes(request.instances)  # type: ignore[arg-type]
        objects = data.lstrip()[1:].lstrip()[:1] == b"{"
        if objects and features is not None and not NAMED_LIST.match(data.lstrip()):
            check_duplicate_keys(body, ONCE)
            return InstancesInput(rows_of_records(data, features), columnar=False)
        rows = [example.input for example in _named(data)] if objects else _rows(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the request cannot be decoded: {error}") from error
    check_duplicate_keys(body, {**ONCE, QUOTED_INPUT: len(rows)})
    return InstancesInput(rows, columnar=False)


def _rows_of_examples(body: bytes) -> list[list[float]]:
    try:
        request = _examples(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the request cannot be decoded: {error}") from error
    check_duplicate_keys(body, {**ONCE, QUOTED_INPUT: 1 + len(request.examples)})
    _check_signature(request.signature_name)
    rows = []
    for index, example in enumerate(request.examples):
        features = {**request.context, **example}
        if set(features) != {INPUT}:
            problem = f"example {index} must have the feature {INPUT!r} and no other"
            raise InvalidRequestError(problem)
        value = features[INPUT]
        rows.append(value if isinstance(value, list) else [value])
    return rows


def _check_signature(name: str) -> None:
    if name != SIGNATURE:
        raise InvalidRequestError(
            f"unknown signature {name[:80]!r}; the signature is {SIGNATURE!r}"
        )


def _encode_predict(key: str, outputs: Array) -> InferenceResponse:
    return InferenceResponse(msgspec.json.encode({key: outputs.tolist()}))


def _encode_classify(labels: list[str], outputs: Array) -> InferenceResponse:
    """Return the classes of each row with their scores, best first."""
    probabilities = probabilities_of(outputs)
    order = np.argsort(-probabilities, axis=1, kind="stable").tolist()
    results = [
        [(labels[index], row[index]) for index in best]
        for best, row in zip(order, probabilities.tolist(), strict=True)
    ]
    return InferenceResponse(msgspec.json.encode({"results": results}))


def _encode_regress(outputs: Array) -> InferenceResponse:
    """Return the one number of each row."""
    if outputs.shape[1] != 1:
        problem = f"regress needs a network with one output, this one has {outputs.shape[1]}"
        raise InvalidRequestError(problem)
    return InferenceResponse(msgspec.json.encode({"results": outputs[:, 0].tolist()}))
