"""Bodies of inference calls, straight to rows and straight to bytes."""

from typing import Annotated, Final

import msgspec

from service.api.dependencies import Services
from service.api.hot import HotAnswer, HotRequest
from service.application.inference import Prediction, classes_of_served, predictions
from service.application.served import Served

JSON: Final = [(b"content-type", b"application/json")]
JSON_TYPES: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    """`ClassifyRequest`, decoded without a stop."""

    inputs: list[list[float]]
    top_k: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None


class Classified(msgspec.Struct, frozen=True, gc=False):
    """`ClassifyBody`, as it is encoded."""

    network: str
    version: int
    predictions: list[Prediction]


class Predicted(msgspec.Struct, frozen=True, gc=False):
    """`PredictBody`, as it is encoded."""

    network: str
    version: int
    outputs: list[list[float]]


_decode = msgspec.json.Decoder(_Call).decode
_encode = msgspec.json.Encoder().encode


def classified(served: Served, found: list[Prediction]) -> bytes:
    """Return the body of a classify answer."""
    return _encode(Classified(served.network.name, served.version, found))


def predicted(served: Served, outputs: list[list[float]]) -> bytes:
    """Return the body of a predict answer."""
    return _encode(Predicted(served.network.name, served.version, outputs))


def hot_classify(parts: Services, served: Served, request: HotRequest) -> HotAnswer | None:
    """Classify on the loop."""
    call = _plain_call(request)
    if call is None:
        return None
    labels = classes_of_served(served)
    rows = _rows(parts, served, call.inputs)
    if rows is None:
        return None
    return HotAnswer(classified(served, predictions(labels, rows, call.top_k)), JSON)


def hot_predict(parts: Services, served: Served, request: HotRequest) -> HotAnswer | None:
    """Predict on the loop."""
    call = _plain_call(request)
    rows = None if call is None else _rows(parts, served, call.inputs)
    return None if rows is None else HotAnswer(predicted(served, rows), JSON)


def _rows(parts: Services, served: Served, inputs: list[list[float]]) -> list[list[float]] | None:
    """Return the outputs of each row; None for so many that a thread should."""
    if len(inputs) == 1:
        outputs_of_one = parts.inference.one(served, inputs[0])
        parts.metrics.rows(1)
        return [outputs_of_one]
    outputs = parts.inference.now(served, inputs)
    if outputs is None:
        return None
    parts.metrics.rows(len(outputs))
    return outputs.tolist()  # type: ignore[no-any-return]


def _plain_call(request: HotRequest) -> _Call | None:
    """Return the body; None where it is not plain JSON with each key once."""
    if request.headers.get(b"content-type", b"application/json") not in JSON_TYPES:
        return None
    body = request.body
    # The decoder takes the last of two equal keys. Without escapes they can be counted.
    if b"\\" in body or body.count(b'"inputs"') != 1 or body.count(b'"top_k"') > 1:
        return None
    return _decode(body)
