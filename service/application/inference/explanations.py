"""Attributions of predictions to inputs, and the comparison of two versions."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np

from core.arrays import Array
from core.errors import NonFiniteError
from core.explanation import STEPS, Attributions, gradient, integrated_gradients
from service.application.datasets.datasets import DatasetService
from service.application.engine_errors import translate_engine_error
from service.application.inference.batches import Rows
from service.application.inference.inference import Inference
from service.application.inference.loaded_model import LoadedModel
from service.application.inference.predictions import probabilities_of
from service.application.training.config import columns_of
from service.domain.datasets import Dataset
from service.domain.errors import FieldError, InvalidRequestError

Method = Literal["gradient", "integrated_gradients"]
MAX_ROWS: Final = 100
MAX_EXAMPLES: Final = 20
CHUNK_ROWS: Final = 2048
"""Rows of a dataset that are compared in one forward pass."""
MAX_WORK: Final = 4e9
"""Multiplications allowed for an explanation; they take a few seconds."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The attributions of one output to the inputs of a row.

    Attributes
    ----------
    target
        Label of the class, or index of the output for regression.
    output, baseline_output
        The explained output for the row and for the baseline.
    attributions
        One number for each input.
    completeness_gap
        For integrated gradients, the part of the output that the attributions do not explain.
    """

    target: str
    output: float
    attributions: list[float]
    baseline_output: float | None = None
    completeness_gap: float | None = None


@final
class ExplanationService:
    """Explains predictions and compares versions."""

    def __init__(self, inference: Inference, datasets: DatasetService) -> None:
        self._inference, self._datasets = inference, datasets

    async def explain(
        self, loaded: LoadedModel, inputs: Rows, method: Method, target: str | None
    ) -> list[Explanation]:
        """Return the attributions of each row.

        They explain the output ``target``; None selects the most probable class of each row, or the
        largest output for regression.
        """
        outputs = await self._inference.outputs(loaded, inputs)
        rows = np.asarray(inputs, np.float64)
        if len(rows) > MAX_ROWS:
            problem = f"expected at most {MAX_ROWS} rows, got {len(rows)}"
            raise InvalidRequestError.at("/inputs", "out_of_range", problem)
        steps = STEPS if method == "integrated_gradients" else 1
        if 3.0 * len(rows) * steps * loaded.network.parameter_count > MAX_WORK:
            limit = int(MAX_WORK / (3.0 * steps * loaded.network.parameter_count))
            problem = f"expected at most {max(limit, 0)} rows for this network, got {len(rows)}"
            raise InvalidRequestError.at("/inputs", "out_of_range", problem)
        names = _target_names(loaded)
        if target is None:
            columns = probabilities_of(outputs) if loaded.classes is not None else outputs
            chosen = columns.argmax(axis=1) if len(names) > 1 else np.zeros(len(rows), int)
        elif target in names:
            chosen = np.full(len(rows), names.index(target))
        else:
            problem = f"unknown target {target[:80]!r}; expected one of {', '.join(names[:20])}"
            raise InvalidRequestError.at("/target", "unknown_target", problem)
        try:
            return await asyncio.to_thread(_explain, loaded, rows, chosen, method)
        except NonFiniteError as error:
            raise translate_engine_error(error, "inputs") from None

    async def compare(
        self, before: LoadedModel, after: LoadedModel, dataset: Dataset | None
    ) -> dict[str, Any]:
        """Return the changes of the parameters and, over a dataset, of the predictions."""
        columns = None
        if dataset is not None:
            try:
                columns = columns_of(before.network, dataset)
            except InvalidRequestError as error:
                where, code = (("parameter", "dataset"),), error.field_errors[0].code
                raise InvalidRequestError(
                    error.detail, [FieldError("", code, error.detail, where)]
                ) from None
        layers = await asyncio.to_thread(_parameter_changes, before, after)
        comparison: dict[str, Any] = {"layers": layers}
        if dataset is not None:
            inputs, _ = await self._datasets.arrays(dataset, columns)
            comparison["predictions"] = await asyncio.to_thread(
                _prediction_changes, before, after, inputs
            )
        return comparison


def _target_names(loaded: LoadedModel) -> list[str]:
    """Return the valid targets: the labels of classes, or the indices of outputs."""
    classes = loaded.classes
    return [str(index) for index in range(loaded.forward.units)] if classes is None else classes


def _explain(loaded: LoadedModel, rows: Array, chosen: Array, method: Method) -> list[Explanation]:
    """Return an explanation for each row; rows with the same target are explained together.

    ``rows`` is (rows, inputs); ``chosen`` is (rows,), the index of each row's target.
    """
    names = _target_names(loaded)
    explanations: list[Explanation | None] = [None] * len(rows)
    for target in np.unique(chosen).tolist():
        indices = np.flatnonzero(chosen == target)
        part = _attributions(loaded, rows[indices], target, method)
        for row, index in enumerate(indices.tolist()):
            explanations[index] = Explanation(
                names[target],
                float(part.outputs[row]),
                part.values[row].tolist(),
                None if part.baseline_outputs is None else float(part.baseline_outputs[row]),
                None if part.gaps is None else float(part.gaps[row]),
            )
    return [explanation for explanation in explanations if explanation is not None]


def _attributions(loaded: LoadedModel, rows: Array, target: int, method: Method) -> Attributions:
    """Return the attributions of rows, (rows, inputs), for a class or output.

    With one sigmoid unit of output p, the first class has the probability 1 - p.
    """
    binary = loaded.forward.units == 1 and loaded.classes is not None
    unit, complement = (0, target == 0) if binary else (target, False)
    model = loaded.model
    if method == "gradient":
        result = gradient(model.network, model.preprocessing, rows, unit)
    else:
        scaling = model.preprocessing.inputs
        baseline = np.zeros(loaded.forward.inputs) if scaling is None else scaling.mean
        result = integrated_gradients(model.network, model.preprocessing, rows, unit, baseline)
    if not complement:
        return result
    return Attributions(
        -result.values,
        1.0 - result.outputs,
        None if result.baseline_outputs is None else 1.0 - result.baseline_outputs,
        None if result.gaps is None else -result.gaps,
    )


def _parameter_changes(before: LoadedModel, after: LoadedModel) -> list[dict[str, Any]]:
    """Return how far the weights and biases of each layer moved."""
    changes = []
    layers = zip(
        before.model.network.layer_weights(), after.model.network.layer_weights(), strict=True
    )
    for index, (old_layer, new_layer) in enumerate(layers):
        if old_layer is None or new_layer is None:
            continue
        for name, old, new in zip(old_layer._fields, old_layer, new_layer, strict=True):
            change = new.astype(np.float64) - old
            at = np.unravel_index(np.abs(change).argmax(), change.shape)
            changes.append(
                {
                    "layer": index,
                    "parameter": name,
                    "norm_from": float(np.linalg.norm(old.astype(np.float64))),
                    "norm_to": float(np.linalg.norm(new.astype(np.float64))),
                    "norm_of_change": float(np.linalg.norm(change)),
                    "largest_change": float(change[at]),
                    "at": [int(part) for part in at],
                }
            )
    return changes


def _prediction_changes(before: LoadedModel, after: LoadedModel, inputs: Array) -> dict[str, Any]:
    """Return how the outputs for inputs of shape (rows, columns) differ between two versions."""
    labels = before.classes
    largest = total = 0.0
    changed = 0
    examples: list[dict[str, Any]] = []
    for start in range(0, len(inputs), CHUNK_ROWS):
        rows = inputs[start : start + CHUNK_ROWS]
        try:
            old, new = before.forward(rows), after.forward(rows)
        except NonFiniteError as error:
            raise translate_engine_error(error, "dataset") from None
        difference = np.abs(new.astype(np.float64) - old)
        largest, total = max(largest, float(difference.max())), total + float(difference.sum())
        if labels is None:
            continue
        old_classes, new_classes = (
            probabilities_of(outputs).argmax(axis=1) for outputs in (old, new)
        )
        differing = np.flatnonzero(old_classes != new_classes)
        changed += len(differing)
        examples += [
            {
                "row": start + int(row),
                "from": labels[old_classes[row]],
                "to": labels[new_classes[row]],
            }
            for row in differing[: MAX_EXAMPLES - len(examples)]
        ]
    result: dict[str, Any] = {
        "rows": len(inputs),
        "largest_output_change": largest,
        "mean_output_change": total / (len(inputs) * before.forward.units),
    }
    return result if labels is None else result | {"changed": changed, "examples": examples}
