"""Why a network says what it says, and what changed between two versions."""

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
from service.domain.datasets import Dataset
from service.domain.errors import FieldError, InvalidRequestError

Method = Literal["gradient", "integrated_gradients"]
MAX_ROWS: Final = 100
MAX_EXAMPLES: Final = 20
CHUNK: Final = 2048
"""Rows of a dataset that are compared at once."""
MAX_WORK: Final = 4e9
"""Multiplications that an explanation may take: some seconds."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each input of a row added to one output.

    Attributes
    ----------
    target
        The class, or for regression the number of the output.
    completeness_gap
        Of integrated gradients: what the attributions leave unexplained.
    """

    target: str
    output: float
    attributions: list[float]
    baseline_output: float | None = None
    completeness_gap: float | None = None


@final
class ExplanationService:
    """The use cases."""

    def __init__(self, inference: Inference, datasets: DatasetService) -> None:
        self._inference, self._datasets = inference, datasets

    async def explain(
        self, served: LoadedModel, inputs: Rows, method: Method, target: str | None
    ) -> list[Explanation]:
        """Return each row's attributions to ``target``, or to its own most probable class."""
        outputs = await self._inference.outputs(served, inputs)
        rows = np.asarray(inputs, np.float64)
        if len(rows) > MAX_ROWS:
            problem = f"at most {MAX_ROWS} rows are explained at once, got {len(rows)}"
            raise InvalidRequestError.at("/inputs", "out_of_range", problem)
        steps = STEPS if method == "integrated_gradients" else 1
        if 3.0 * len(rows) * steps * served.network.parameter_count > MAX_WORK:
            most = int(MAX_WORK / (3.0 * steps * served.network.parameter_count))
            problem = f"this network is explained for at most {max(most, 0)} rows at once"
            raise InvalidRequestError.at("/inputs", "out_of_range", problem)
        names = _target_names(served)
        if target is None:
            columns = probabilities_of(outputs) if served.classes is not None else outputs
            chosen = columns.argmax(axis=1) if len(names) > 1 else np.zeros(len(rows), int)
        elif target in names:
            chosen = np.full(len(rows), names.index(target))
        else:
            problem = f"{target[:80]!r} is none of {', '.join(names[:20])}"
            raise InvalidRequestError.at("/target", "unknown_target", problem)
        try:
            return await asyncio.to_thread(_explained, served, rows, chosen, method)
        except NonFiniteError as error:
            raise translate_engine_error(error, "inputs") from None

    async def compare(
        self, one: LoadedModel, other: LoadedModel, dataset: Dataset | None
    ) -> dict[str, Any]:
        """Return how the parameters moved from one version to another, and what they now say."""
        columns = one.network.input_shape
        if dataset is not None and dataset.input_shape != columns:
            problem = f"the network takes {columns[0]} inputs, the dataset {dataset.input_shape[0]}"
            place = (("parameter", "dataset"),)
            raise InvalidRequestError(problem, [FieldError("", "shape_mismatch", problem, place)])
        told: dict[str, Any] = {"layers": await asyncio.to_thread(_moved, one, other)}
        if dataset is not None:
            inputs, _ = await self._datasets.arrays(dataset)
            told["predictions"] = await asyncio.to_thread(_changed, one, other, inputs)
        return told


def _target_names(served: LoadedModel) -> list[str]:
    """Return what a target can be: the classes, or the numbers of the outputs."""
    classes = served.classes
    return [str(at) for at in range(served.forward.units)] if classes is None else classes


def _explained(
    served: LoadedModel, rows: Array, chosen: Array, method: Method
) -> list[Explanation]:
    """Explain rows of the same target together."""
    names = _target_names(served)
    found: list[Explanation | None] = [None] * len(rows)
    for target in np.unique(chosen).tolist():
        at = np.flatnonzero(chosen == target)
        told = _attributions(served, rows[at], target, method)
        for place, index in enumerate(at.tolist()):
            found[index] = Explanation(
                names[target],
                float(told.outputs[place]),
                told.values[place].tolist(),
                None if told.baseline_outputs is None else float(told.baseline_outputs[place]),
                None if told.gaps is None else float(told.gaps[place]),
            )
    return [explanation for explanation in found if explanation is not None]


def _attributions(served: LoadedModel, rows: Array, target: int, method: Method) -> Attributions:
    """Return attributions to a class or output; of one sigmoid unit, the first class is 1 - p."""
    two = served.forward.units == 1 and served.classes is not None
    unit, mirrored = (0, target == 0) if two else (target, False)
    model = served.model
    if method == "gradient":
        told = gradient(model.network, model.preprocessing, rows, unit)
    else:
        scaling = model.preprocessing.inputs
        baseline = np.zeros(served.forward.inputs) if scaling is None else scaling.mean
        told = integrated_gradients(model.network, model.preprocessing, rows, unit, baseline)
    if not mirrored:
        return told
    return Attributions(
        -told.values,
        1.0 - told.outputs,
        None if told.baseline_outputs is None else 1.0 - told.baseline_outputs,
        None if told.gaps is None else -told.gaps,
    )


def _moved(one: LoadedModel, other: LoadedModel) -> list[dict[str, Any]]:
    """Return how far each layer's weights and biases moved."""
    told = []
    parts = zip(one.model.network.layer_weights(), other.model.network.layer_weights(), strict=True)
    for index, (before, after) in enumerate(parts):
        if before is None or after is None:
            continue
        for name, was, now in zip(before._fields, before, after, strict=True):
            change = now.astype(np.float64) - was
            at = np.unravel_index(np.abs(change).argmax(), change.shape)
            told.append(
                {
                    "layer": index,
                    "parameter": name,
                    "norm_from": float(np.linalg.norm(was.astype(np.float64))),
                    "norm_to": float(np.linalg.norm(now.astype(np.float64))),
                    "norm_of_change": float(np.linalg.norm(change)),
                    "largest_change": float(change[at]),
                    "at": [int(place) for place in at],
                }
            )
    return told


def _changed(one: LoadedModel, other: LoadedModel, inputs: Array) -> dict[str, Any]:
    """Return which rows of a dataset two versions answer differently."""
    labels = one.classes
    largest = total = 0.0
    changed = 0
    examples: list[dict[str, Any]] = []
    for start in range(0, len(inputs), CHUNK):
        rows = inputs[start : start + CHUNK]
        try:
            before, after = one.forward(rows), other.forward(rows)
        except NonFiniteError as error:
            raise translate_engine_error(error, "dataset") from None
        difference = np.abs(after.astype(np.float64) - before)
        largest, total = max(largest, float(difference.max())), total + float(difference.sum())
        if labels is None:
            continue
        was, now = (probabilities_of(outputs).argmax(axis=1) for outputs in (before, after))
        differ = np.flatnonzero(was != now)
        changed += len(differ)
        examples += [
            {"row": start + int(row), "from": labels[was[row]], "to": labels[now[row]]}
            for row in differ[: MAX_EXAMPLES - len(examples)]
        ]
    told: dict[str, Any] = {
        "rows": len(inputs),
        "largest_output_change": largest,
        "mean_output_change": total / (len(inputs) * one.forward.units),
    }
    return told if labels is None else told | {"changed": changed, "examples": examples}
