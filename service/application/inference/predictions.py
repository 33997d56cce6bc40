"""Predictions of classifiers."""

import msgspec
import numpy as np

from core.arrays import Array
from service.application.inference.loaded_model import LoadedModel
from service.domain.errors import ConflictError


class Top(msgspec.Struct, frozen=True, gc=False):
    """One of the most probable classes."""

    label: str
    probability: float


class Prediction(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The predicted class of a row and the probabilities of all classes."""

    label: str
    class_index: int
    probability: float
    probabilities: list[float]
    top: list[Top] | None = None


class NotAClassifierError(ConflictError):
    """The outputs of the network are not probabilities."""

    code = "not_a_classifier"


def class_names_of(model: LoadedModel) -> list[str]:
    """Return the names of the classes; raise NotAClassifierError without classes."""
    labels = model.classes
    if labels is None:
        problem = (
            f"the outputs of a last layer with {model.network.output_activation} are not "
            "probabilities; use predict"
        )
        raise NotAClassifierError(problem)
    return labels


def probabilities_of(outputs: Array) -> Array:
    """Return probabilities, (rows, classes), from outputs, (rows, units).

    One sigmoid unit gives the probabilities of two classes.
    """
    return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs


def predictions(labels: list[str], rows: list[list[float]], top_k: int | None) -> list[Prediction]:
    """Return a prediction for each row of outputs.

    ``top_k`` adds that many of the most probable classes to each prediction.
    """
    if rows and len(rows[0]) == 1:
        rows = [[1.0 - p, p] for (p,) in rows]
    best = [row.index(max(row)) for row in rows]
    if top_k is None:
        return [
            Prediction(labels[index], index, row[index], row)
            for index, row in zip(best, rows, strict=True)
        ]
    return [
        Prediction(labels[index], index, row[index], row, _top(labels, row, top_k))
        for index, row in zip(best, rows, strict=True)
    ]


def _top(labels: list[str], row: list[float], count: int) -> list[Top]:
    """Return the ``count`` most probable classes, most probable first."""
    order = sorted(range(len(row)), key=row.__getitem__, reverse=True)
    return [Top(labels[index], row[index]) for index in order[:count]]
