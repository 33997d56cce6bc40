"""Bodies of inference calls, straight to rows and straight to bytes."""

from typing import Annotated, Final

import msgspec

from service.api.dependencies import Services
from service.api.hot import Array, Asked, HotAnswer, HotRequest
from service.application.inference.loaded_model import LoadedModel
from service.application.inference.predictions import Prediction, class_names_of, predictions
from service.domain.limits import MAX_WIDTH

JSON: Final = b"content-type: application/json\r\n"
JSON_TYPES: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    """`ClassifyRequest`, decoded without a stop."""

    inputs: list[list[float]]
    top_k: Annotated[int, msgspec.Meta(ge=1, le=MAX_WIDTH)] | None = None


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


def classified(served: LoadedModel, labels: list[str], top_k: int | None, outputs: Array) -> bytes:
    """Return the body of a classify answer."""
    found = predictions(labels, outputs.tolist(), top_k)
    return _encode(Classified(served.network.name, served.version, found))


def predicted(served: LoadedModel, outputs: Array) -> bytes:
    """Return the body of a predict answer."""
    return _encode(Predicted(served.network.name, served.version, outputs.tolist()))


def hot_classify(_: Services, served: LoadedModel, request: HotRequest) -> Asked | None:
    """Classify on the loop."""
    call = _plain_call(request)
    if call is None:
        return None
    labels, top_k = class_names_of(served), call.top_k

    def answer(outputs: Array) -> HotAnswer:
        return HotAnswer(classified(served, labels, top_k, outputs), JSON)

    return Asked(call.inputs, answer)


def hot_predict(_: Services, served: LoadedModel, request: HotRequest) -> Asked | None:
    """Predict on the loop."""
    call = _plain_call(request)
    if call is None:
        return None
    return Asked(call.inputs, lambda outputs: HotAnswer(predicted(served, outputs), JSON))


def _plain_call(request: HotRequest) -> _Call | None:
    """Return the body; None where it is not plain JSON with each key once."""
    if request.headers.get(b"content-type", b"application/json") not in JSON_TYPES:
        return None
    body = request.body
    # The decoder takes the last of two equal keys. Without escapes they can be counted.
    if b"\\" in body or body.count(b'"inputs"') != 1 or body.count(b'"top_k"') > 1:
        return None
    return _decode(body)
