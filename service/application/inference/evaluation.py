"""Loss and metrics of a loaded model, and the gradient check."""

from typing import Any

import numpy as np

from core.arrays import Array
from core.batches import Rows
from core.configuration import build
from core.errors import EngineError
from core.formats import Model
from core.gradient_check import TOLERANCE, PartCheck, gradient_check
from core.losses import LOSSES
from core.metrics import classification_report, regression_report
from core.network import Network
from service.application.datasets.tables import RawTargets
from service.application.engine_errors import translate_engine_error
from service.application.inference.loaded_model import LoadedModel
from service.domain.errors import InvalidRequestError, pointer
from service.domain.networks import NetworkRecord


def class_indices(words: list[str], labels: list[str]) -> Array:
    """Return the class index of each word, (rows,)."""
    for index, word in enumerate(words):
        if word not in labels:
            problem = f"unknown label {word[:80]!r}; expected one of {', '.join(labels[:12])}"
            raise InvalidRequestError.at(pointer("targets", index), "label_mismatch", problem)
    return np.array([labels.index(word) for word in words])


def target_vectors(raw: RawTargets, units: int) -> Array:
    """Return numeric targets as an array, (rows, units)."""
    numbers = raw.numbers
    if numbers is not None and numbers.ndim == 1:
        numbers = numbers.reshape(-1, 1)
    if numbers is None or numbers.shape[1] != units:
        problem = f"expected targets of {units} numbers"
        raise InvalidRequestError.at("/targets", "shape_error", problem)
    return numbers


def check_loss(network: NetworkRecord, loss: Any) -> None:
    """Raise InvalidRequestError if the network's last layer does not support a loss."""
    try:
        build(LOSSES, "loss", loss).check_output(network.output_activation)
    except EngineError as error:
        raise translate_engine_error(error) from None


def _prepared(
    model: Model, classes: list[int] | None, rows: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return preprocessed inputs and targets, in float64.

    Parameters
    ----------
    model
        The model and its preprocessing.
    classes
        The network's class index for each class of the dataset; None for regression.
    rows
        Inputs of shape (rows, columns), and targets of shape (rows,) or (rows, outputs).
    """
    inputs, targets = rows
    if model.preprocessing.inputs is not None:
        inputs = model.preprocessing.inputs.apply(inputs)
    if classes is not None:
        return inputs, np.array(classes)[targets]
    if model.preprocessing.targets is not None:
        targets = model.preprocessing.targets.apply(targets)
    return inputs, targets


def evaluate_model(
    loaded: LoadedModel, loss: Any, classes: list[int] | None, rows: tuple[Array, Array]
) -> dict[str, Any]:
    """Return loss and metrics over rows; see `_prepared` for ``classes`` and ``rows``."""
    model = loaded.model
    inputs, targets = _prepared(model, classes, rows)
    try:
        predicted = model.network.predict(inputs)
    except EngineError as error:
        raise InvalidRequestError.at("/dataset", "not_finite", str(error)) from None
    report: dict[str, Any] = {"rows": len(inputs)}
    report["loss"] = build(LOSSES, "loss", loss).value(predicted, targets)
    if not np.isfinite(report["loss"]):
        problem = "the loss over these rows is not finite"
        raise InvalidRequestError.at("/dataset", "not_finite", problem)
    outputs = predicted.astype(np.float64)
    if classes is None:
        if model.preprocessing.targets is not None:
            outputs = model.preprocessing.targets.invert(outputs)
        return report | {"task": "regression"} | regression_report(outputs, rows[1])
    count = 2 if outputs.shape[1] == 1 else outputs.shape[1]
    labels = loaded.network.effective_labels or [str(index) for index in range(count)]
    metrics = classification_report(outputs, targets, count)
    parts = zip(
        labels, metrics.pop("precision"), metrics.pop("recall"), metrics.pop("f1"), strict=False
    )
    metrics["per_class"] = [
        {"label": label, "precision": precision, "recall": recall, "f1": f1}
        for label, precision, recall, f1 in parts
    ]
    return report | {"task": "classification", "labels": labels} | metrics


def check_gradient_of(
    loaded: LoadedModel, loss: Any, classes: list[int] | None, rows: tuple[Array, Array]
) -> dict[str, Any]:
    """Return the gradient check of a float64 copy of the network.

    In float64, rounding errors are too small to fail the check. See `_prepared` for ``classes`` and
    ``rows``.
    """
    inputs, targets = _prepared(loaded.model, classes, rows)
    engine = Network.from_config({**loaded.network.config(), "dtype": "float64"})
    engine.parameters[:] = loaded.model.network.parameters
    try:
        checks = gradient_check(engine, build(LOSSES, "loss", loss), Rows(inputs, targets))
    except EngineError as error:
        raise translate_engine_error(error) from None
    worst = max(check.largest_relative_error for check in checks)
    return {
        "version": loaded.version,
        "loss": loss,
        "rows": len(inputs),
        "tolerance": TOLERANCE,
        "largest_relative_error": worst,
        "passed": worst <= TOLERANCE,
        "verdict": "passed" if worst <= TOLERANCE else "failed",
        "layers": _by_layer(checks),
    }


def _by_layer(checks: list[PartCheck]) -> list[dict[str, Any]]:
    """Return the checks grouped by layer."""
    layers: dict[int, dict[str, Any]] = {}
    for check in checks:
        layer = layers.setdefault(check.layer, {"layer": check.layer, "parameters": {}})
        layer["parameters"][check.parameter] = {
            "largest_relative_error": check.largest_relative_error,
            "at": list(check.at),
            "analytic": check.analytic,
            "numeric": check.numeric,
            "checked": check.checked,
        }
    return list(layers.values())
