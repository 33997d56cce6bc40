"""A multilayer perceptron of scikit-learn as JSON: the attributes of a fitted estimator by name."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, final

import numpy as np

from core.activations import Activation, Linear, ReLU, Sigmoid, Softmax, Tanh
from core.errors import FormatError, UnknownTypeError
from core.formats.base import DocumentFormat, Model
from core.formats.json_format import parse_array
from core.formats.named_arrays import build_model
from core.network import LayerWeights

ACTIVATIONS: Final[dict[str, type[Activation]]] = {
    "identity": Linear,
    "logistic": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "softmax": Softmax,
}
"""Activation names of scikit-learn, and the equivalents of this engine."""

FLOAT64: Final = np.dtype("<f8")


@final
class SklearnJson(DocumentFormat):
    """``{"coefs_": [[[...]]], "intercepts_": [[...]], "activation", "out_activation_"}``.

    ``classes_`` become the labels. A binary classifier has one sigmoid unit, as in this engine.
    """

    type: ClassVar[str] = "sklearn-json"

    def recognizes(self, document: Mapping[str, Any]) -> bool:
        return "coefs_" in document

    def read(self, document: Mapping[str, Any]) -> Model:
        known = {"coefs_", "intercepts_", "activation", "out_activation_", "classes_"}
        for key in document.keys() - known:
            raise FormatError(f"unknown field; allowed: {', '.join(sorted(known))}", path=(key,))
        weights, biases = document["coefs_"], document.get("intercepts_")
        lists = isinstance(weights, list) and isinstance(biases, list)
        if not lists or not weights or len(weights) != len(biases or []):
            problem = (
                "coefs_ and intercepts_ must be lists of equal length, with at least one layer"
            )
            raise FormatError(problem, path=("intercepts_",))
        parts = [
            LayerWeights(_matrix(matrix, index), _vector(vector, index))
            for index, (matrix, vector) in enumerate(zip(weights, biases or [], strict=True))
        ]
        hidden = _activation(document, "activation", "relu")
        last = _activation(document, "out_activation_", "identity")
        labels = _labels(document.get("classes_"))
        notes = ["the weights are float64, as in scikit-learn"]
        if "out_activation_" not in document:
            notes.append("out_activation_ is missing: identity was assumed")
        return build_model(parts, [hidden] * (len(parts) - 1) + [last], tuple(notes), labels)


def _matrix(values: object, index: int) -> Any:
    path = ("coefs_", index)
    if not isinstance(values, list) or not values or not isinstance(values[0], list):
        raise FormatError("expected a list of rows", path=path)
    return parse_array(values, (len(values), len(values[0])), FLOAT64, path)


def _vector(values: object, index: int) -> Any:
    path = ("intercepts_", index)
    if not isinstance(values, list):
        raise FormatError("expected a list of numbers", path=path)
    return parse_array(values, (len(values),), FLOAT64, path)


def _activation(document: Mapping[str, Any], key: str, default: str) -> Activation:
    name = document.get(key, default)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnknownTypeError("activation", name, ACTIVATIONS, path=(key,))
    return ACTIVATIONS[name]()


def _labels(classes: object) -> tuple[str, ...] | None:
    if classes is None:
        return None
    if not isinstance(classes, list):
        raise FormatError("expected a list", path=("classes_",))
    return tuple(str(name) for name in classes)
