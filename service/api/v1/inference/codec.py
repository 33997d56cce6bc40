"""Bodies of classify and predict, decoded to rows and encoded from outputs."""

from functools import partial
from typing import Annotated, Any, Final

import msgspec

from core.arrays import Array
from service.api.body import check_json_type
from service.api.protocols.base import Call, InferenceRequest, InferenceResponse, Operation
from service.api.strict_json import check_rows, parse_json
from service.api.v1.inference.schemas import ClassifyRequest
from service.application.inference.loaded_model import LoadedModel
from service.application.inference.predictions import Prediction, class_names_of, predictions
from service.domain.errors import InvalidRequestError, MalformedBodyError, pointer
from service.domain.limits import MAX_WIDTH, Limits

MAX_NAMED_ROWS: Final = 100_000
JSON_TYPES: Final = frozenset({None, b"application/json", b"application/json; charset=utf-8"})


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    """`ClassifyRequest`, decoded without pydantic."""

    inputs: list[list[float]]
    top_k: Annotated[int, msgspec.Meta(ge=1, le=MAX_WIDTH)] | None = None


class _Classified(msgspec.Struct, frozen=True, gc=False):
    """`ClassifyBody`, as it is encoded."""

    network: str
    version: int
    predictions: list[Prediction]


class _Predicted(msgspec.Struct, frozen=True, gc=False):
    """`PredictBody`, as it is encoded."""

    network: str
    version: int
    outputs: list[list[float]]


_decode = msgspec.json.Decoder(_Call).decode
_encode = msgspec.json.Encoder().encode


def _decode_classify(request: InferenceRequest, model: LoadedModel) -> Call:
    labels, call = class_names_of(model), _decode_body(request, model)
    return Call(call.inputs, partial(_encode_classify, model, labels, call.top_k))


def _decode_predict(request: InferenceRequest, model: LoadedModel) -> Call:
    return Call(_decode_body(request, model).inputs, partial(_encode_predict, model))


def _encode_classify(
    model: LoadedModel, labels: list[str], top_k: int | None, outputs: Array
) -> InferenceResponse:
    rows = predictions(labels, outputs.tolist(), top_k)
    return InferenceResponse(_encode(_Classified(model.network.name, model.version, rows)))


def _encode_predict(model: LoadedModel, outputs: Array) -> InferenceResponse:
    rows = outputs.tolist()
    return InferenceResponse(_encode(_Predicted(model.network.name, model.version, rows)))


def _decode_body(request: InferenceRequest, model: LoadedModel) -> _Call:
    """Return the body; what the fast decoder rejects or may misread is parsed strictly."""
    if request.headers.get(b"content-type") not in JSON_TYPES:
        check_json_type(request.header(b"content-type"))
    body = request.body
    # The decoder keeps the last of equal keys. Without escapes the keys can be counted.
    if b"\\" not in body and body.count(b'"inputs"') == 1 and body.count(b'"top_k"') <= 1:
        try:
            call = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        else:
            if call.inputs:
                return call
    if not body:
        raise MalformedBodyError("a JSON body is required")
    content = _with_ordered_rows(parse_json(body, MAX_NAMED_ROWS), model)
    strict = ClassifyRequest.model_validate(content)
    return _Call(strict.inputs, strict.top_k)


def _with_ordered_rows(content: Any, model: LoadedModel) -> Any:
    """Return a body whose rows by name are lists in the order of the network's features.

    Raises
    ------
    InvalidRequestError
        If a row has an unknown name, or lacks a feature.
    """
    rows = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not any(isinstance(row, dict) for row in rows):
        return content
    features = model.network.feature_names
    if features is None:
        problem = "the network has no named features yet; send rows as lists"
        raise InvalidRequestError.at("/inputs", "no_features", problem)
    ordered = [
        _ordered(row, features, index) if isinstance(row, dict) else row
        for index, row in enumerate(rows)
    ]
    return {**content, "inputs": ordered}


def _ordered(row: dict[str, Any], features: list[str], index: int) -> list[Any]:
    """Return the values of a row in the order of the features."""
    for name in row.keys() - set(features):
        problem = f"unknown feature {name[:80]!r}; the features are {', '.join(features[:20])}"
        raise InvalidRequestError.at(pointer("inputs", index, name), "unknown_feature", problem)
    for name in features:
        if name not in row:
            problem = f"the feature {name[:80]!r} is missing"
            raise InvalidRequestError.at(pointer("inputs", index), "missing_feature", problem)
        value = row[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            problem = f"the feature {name[:80]!r} must be a number"
            raise InvalidRequestError.at(pointer("inputs", index, name), "not_a_number", problem)
    return [row[name] for name in features]


def _check_large(limits: Limits, model: LoadedModel, request: InferenceRequest) -> None:
    check_rows(request.body, limits, model.forward.inputs, "/inputs")


OPERATIONS: Final = tuple(
    Operation(f"{path}/{name}", decode, limit="json_bytes", check_large=_check_large)
    for name, decode in (("classify", _decode_classify), ("predict", _decode_predict))
    for path in ("/v1/networks/{network}", "/v1/networks/{network}/versions/{ref}")
)
