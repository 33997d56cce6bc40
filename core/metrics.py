"""Metrics of predictions, independent of the loss."""

from typing import Any

import numpy as np

from core.arrays import Array


def class_indices(outputs: Array) -> Array:
    """Return the predicted class of each row.

    Parameters
    ----------
    outputs : (rows, units)
        For one unit, class 1 is predicted if the output exceeds 0.5.

    Returns
    -------
    indices : (rows,)
    """
    if outputs.shape[1] == 1:
        return np.asarray(outputs[:, 0] > 0.5, np.intp)
    return np.asarray(np.argmax(outputs, axis=1))


def accuracy(predicted: Array, actual: Array) -> float:
    """Return the fraction of rows whose class is predicted correctly.

    Parameters
    ----------
    predicted, actual : (rows,)
        Class indices.
    """
    return float(np.mean(predicted == actual))


def top_k_accuracy(outputs: Array, actual: Array, k: int) -> float:
    """Return the fraction of rows whose class is among the ``k`` largest outputs.

    Parameters
    ----------
    outputs : (rows, units)
    actual : (rows,)
        Class indices.
    k
        Values above the number of units are reduced to it.
    """
    k = min(k, outputs.shape[1])
    best = np.argpartition(outputs, -k, axis=1)[:, -k:]
    return float(np.mean((best == actual[:, None]).any(axis=1)))


def confusion_matrix(predicted: Array, actual: Array, classes: int) -> Array:
    """Return the counts by actual and predicted class.

    Parameters
    ----------
    predicted, actual : (rows,)
        Class indices.
    classes
        Number of classes.

    Returns
    -------
    confusion : (classes, classes)
        Rows are actual classes, columns are predicted classes.
    """
    counts = np.bincount(actual * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def precision_recall_f1(confusion: Array) -> tuple[Array, Array, Array]:
    """Return the precision, recall and F1 score of each class. Undefined values are 0.

    Parameters
    ----------
    confusion : (classes, classes)
        As returned by `confusion_matrix`.

    Returns
    -------
    precision, recall, f1 : (classes,)
    """
    correct = np.diag(confusion).astype(np.float64)
    predicted, actual = confusion.sum(axis=0), confusion.sum(axis=1)
    precision = _ratio(correct, predicted)
    recall = _ratio(correct, actual)
    return precision, recall, _ratio(2.0 * precision * recall, precision + recall)


def _ratio(part: Array, whole: Array) -> Array:
    """Return part / whole, or 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def mean_squared_error(outputs: Array, targets: Array) -> float:
    """Return the mean of the squared differences.

    Parameters
    ----------
    outputs, targets : (rows, units)
    """
    return float(np.mean(np.square(outputs - targets)))


def mean_absolute_error(outputs: Array, targets: Array) -> float:
    """Return the mean of the absolute differences.

    Parameters
    ----------
    outputs, targets : (rows, units)
    """
    return float(np.mean(np.abs(outputs - targets)))


def r2_score(outputs: Array, targets: Array) -> float:
    """Return 1 - residual / total sum of squares, averaged over outputs. Constant targets give 0.

    Parameters
    ----------
    outputs, targets : (rows, units)
    """
    residual = np.square(outputs - targets).sum(axis=0)
    total = np.square(targets - targets.mean(axis=0)).sum(axis=0)
    return float(np.mean(np.where(total > 0.0, 1.0 - _ratio(residual, total), 0.0)))


def classification_report(outputs: Array, actual: Array, classes: int) -> dict[str, Any]:
    """Return all classification metrics.

    Parameters
    ----------
    outputs : (rows, units)
    actual : (rows,)
        Class indices.
    classes
        Number of classes.
    """
    predicted = class_indices(outputs)
    confusion = confusion_matrix(predicted, actual, classes)
    precision, recall, f1 = precision_recall_f1(confusion)
    probabilities = np.hstack([1.0 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
    return {
        "accuracy": accuracy(predicted, actual),
        "top_3_accuracy": top_k_accuracy(probabilities, actual, 3),
        "confusion_matrix": confusion.tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
    }


def regression_report(outputs: Array, targets: Array) -> dict[str, float]:
    """Return all regression metrics.

    Parameters
    ----------
    outputs, targets : (rows, units)
    """
    return {
        "mse": mean_squared_error(outputs, targets),
        "mae": mean_absolute_error(outputs, targets),
        "r2": r2_score(outputs, targets),
    }
