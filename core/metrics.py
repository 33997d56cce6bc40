"""Metrics: how good predictions are, apart from the loss that trained them."""

from typing import Any

import numpy as np

from core.arrays import Array


def class_indices(outputs: Array) -> Array:
    """Return the class of each row: the largest output, or for one sigmoid whether p > 0.5.

    Parameters
    ----------
    outputs
        (rows, units)
    """
    if outputs.shape[1] == 1:
        return np.asarray(outputs[:, 0] > 0.5, np.intp)
    return np.asarray(np.argmax(outputs, axis=1))


def accuracy(predicted: Array, actual: Array) -> float:
    """Return the share of rows whose class is right."""
    return float(np.mean(predicted == actual))


def top_k_accuracy(outputs: Array, actual: Array, k: int) -> float:
    """Return the share of rows whose class is among the ``k`` largest of (rows, units)."""
    k = min(k, outputs.shape[1])
    best = np.argpartition(outputs, -k, axis=1)[:, -k:]
    return float(np.mean((best == actual[:, None]).any(axis=1)))


def confusion_matrix(predicted: Array, actual: Array, classes: int) -> Array:
    """Return (classes, classes) counts: a row is the actual class, a column the predicted."""
    counts = np.bincount(actual * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def precision_recall_f1(confusion: Array) -> tuple[Array, Array, Array]:
    """Return each class's precision, recall and F1, (classes,); 0 where nothing was counted."""
    correct = np.diag(confusion).astype(np.float64)
    predicted, actual = confusion.sum(axis=0), confusion.sum(axis=1)
    precision = _ratio(correct, predicted)
    recall = _ratio(correct, actual)
    return precision, recall, _ratio(2.0 * precision * recall, precision + recall)


def _ratio(part: Array, whole: Array) -> Array:
    """Return part / whole, and 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def mean_squared_error(outputs: Array, targets: Array) -> float:
    """Return the mean of the squared differences."""
    return float(np.mean(np.square(outputs - targets)))


def mean_absolute_error(outputs: Array, targets: Array) -> float:
    """Return the mean of the absolute differences."""
    return float(np.mean(np.abs(outputs - targets)))


def r2_score(outputs: Array, targets: Array) -> float:
    """Return 1 - residual / total sum of squares, averaged over outputs; 0 for constant targets.

    Parameters
    ----------
    outputs, targets
        (rows, units)
    """
    residual = np.square(outputs - targets).sum(axis=0)
    total = np.square(targets - targets.mean(axis=0)).sum(axis=0)
    return float(np.mean(np.where(total > 0.0, 1.0 - _ratio(residual, total), 0.0)))


def classification_report(outputs: Array, actual: Array, classes: int) -> dict[str, Any]:
    """Return all classification metrics of (rows, units) outputs against (rows,) classes."""
    predicted = class_indices(outputs)
    confusion = confusion_matrix(predicted, actual, classes)
    precision, recall, f1 = precision_recall_f1(confusion)
    spread = np.hstack([1.0 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
    return {
        "accuracy": accuracy(predicted, actual),
        "top_3_accuracy": top_k_accuracy(spread, actual, 3),
        "confusion_matrix": confusion.tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
    }


def regression_report(outputs: Array, targets: Array) -> dict[str, float]:
    """Return all regression metrics of (rows, units) outputs against targets."""
    return {
        "mse": mean_squared_error(outputs, targets),
        "mae": mean_absolute_error(outputs, targets),
        "r2": r2_score(outputs, targets),
    }
