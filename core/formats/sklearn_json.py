"""scikit-learn's MLP as JSON: the attributes of a fitted estimator under their own names."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, final

import numpy as np

from core.errors import FormatError, UnknownTypeError
from core.formats.base import DocumentFormat, Model
from core.formats.json_format import numbers
from core.formats.named_arrays import assembled
from core.network import LayerWeights

ACTIVATIONS: Final = {
    "identity": "linear",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softmax": "softmax",
}
"""Ours for theirs."""

FLOAT64: Final = np.dtype("<f8")


@final
class SklearnJson(DocumentFormat):
    """``{"coefs_": [[[...]]], "intercepts_": [[...]], "activation", "out_activation_"}``.

    ``classes_`` become the labels; a binary classifier has one logistic unit, as ours.
    """

    type: ClassVar[str] = "sklearn-json"

    def recognizes(self, document: Mapping[str, Any]) -> bool:
        return "coefs_" in document

    def read(self, document: Mapping[str, Any]) -> Model:
        known = {"coefs_", "intercepts_", "activation", "out_activation_", "classes_"}
        for key in document.keys() - known:
            raise FormatError(f"takes {', '.join(sorted(known))}", path=(key,))
        weights, biases = document["coefs_"], document.get("intercepts_")
        lists = isinstance(weights, list) and isinstance(biases, list)
        if not lists or not weights or len(weights) != len(biases or []):
            raise FormatError("as many intercepts_ as coefs_ are due", path=("intercepts_",))
        parts = [
            LayerWeights(_matrix(matrix, index), _vector(vector, index))
            for index, (matrix, vector) in enumerate(zip(weights, biases or [], strict=True))
        ]
        hidden = _activation(document, "activation", "relu")
        last = _activation(document, "out_activation_", "identity")
        labels = _labels(document.get("classes_"))
        notes = ["the numbers are float64, as scikit-learn's are"]
        if "out_activation_" not in document:
            notes.append("no out_activation_ is told: identity was assumed")
        return assembled(parts, [hidden] * (len(parts) - 1) + [last], tuple(notes), labels)


def _matrix(values: object, index: int) -> Any:
    path = ("coefs_", index)
    if not isinstance(values, list) or not values or not isinstance(values[0], list):
        raise FormatError("a list of rows is due", path=path)
    return numbers(values, (len(values), len(values[0])), FLOAT64, path)


def _vector(values: object, index: int) -> Any:
    path = ("intercepts_", index)
    if not isinstance(values, list):
        raise FormatError("a list of numbers is due", path=path)
    return numbers(values, (len(values),), FLOAT64, path)


def _activation(document: Mapping[str, Any], key: str, assumed: str) -> str:
    name = document.get(key, assumed)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnknownTypeError("activation", name, ACTIVATIONS, path=(key,))
    return ACTIVATIONS[name]


def _labels(classes: object) -> tuple[str, ...] | None:
    if classes is None:
        return None
    if not isinstance(classes, list):
        raise FormatError("a list is due", path=("classes_",))
    return tuple(str(name) for name in classes)
