"""Answers of trained networks."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, final

import numpy as np

from core.arrays import Array, as_rows
from core.errors import NonFiniteError, ShapeError
from core.formats import Model
from core.network import Network as Engine
from core.preprocessing import Preprocessing
from service.application.dataset_rows import json_targets
from service.application.datasets import Datasets
from service.application.evaluation import (
    check_loss,
    class_numbers,
    evaluated,
    gradient_checked,
    vectors_of,
)
from service.application.live import LiveBoard
from service.application.networks import Networks, engine_fault
from service.application.served import Served
from service.application.training import classes_of, default_loss
from service.domain.datasets import Dataset, Task
from service.domain.errors import Conflict, Fault, InvalidRequest, pointer
from service.domain.limits import Limits

INLINE_MULTIPLICATIONS: Final = 4_000_000
"""A forward pass of fewer multiplications takes under a millisecond: not worth a thread."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of one row."""

    label: str
    class_index: int
    probability: float
    probabilities: list[float]
    top: list[tuple[str, float]] | None = None


class ModelCache(Protocol):
    """Loaded versions, the least recently used out first."""

    async def get(self, key: tuple[str, ...], load: Callable[[], Awaitable[Served]]) -> Served:
        """Return what ``load`` gives; many first requests load once."""

    def drop(self, network_id: str) -> None:
        """Forget what is loaded of a network."""

    def __len__(self) -> int:
        """Return how many versions are loaded."""


class NotAClassifier(Conflict):
    """The network's outputs are no probabilities."""

    code = "not_a_classifier"


@final
class Inference:
    """The use cases."""

    def __init__(
        self,
        networks: Networks,
        datasets: Datasets,
        cache: ModelCache,
        board: LiveBoard,
        limits: Limits,
    ) -> None:
        self._networks, self._datasets = networks, datasets
        self._cache, self._board, self._limits = cache, board, limits

    async def served(self, owner: str, reference: str, ref: str | None) -> Served:
        """Return a version, loaded; ``live`` is the newest snapshot of the job now training."""
        if ref == "live":
            return await self._live(owner, reference)
        return await self._cache.get(
            (owner, reference, ref or ""), lambda: self._load(owner, reference, ref)
        )

    def loaded(self) -> int:
        """Return how many versions are in memory."""
        return len(self._cache)

    async def _load(self, owner: str, reference: str, ref: str | None) -> Served:
        network, version = await self._networks.version(owner, reference, ref)
        model = await self._networks.model(network, version)
        return Served(network, version.number, model, version.training)

    async def _live(self, owner: str, reference: str) -> Served:
        network = await self._networks.get(owner, reference)
        live = self._board.get(network.id)
        if live is None:
            return await self.served(owner, reference, "latest")
        engine = Engine.from_spec(network.spec())
        engine.load_bytes(live.snapshot.weights)
        preprocessing = Preprocessing.from_document(
            live.snapshot.preprocessing, engine.inputs, engine.units
        )
        return Served(network, live.base_version, Model(engine, None, preprocessing))

    async def outputs(self, served: Served, inputs: object) -> Array:
        """Return the outputs for raw rows, (rows, units).

        Raises
        ------
        InvalidRequest
            When the rows do not fit, or the numbers leave the finite ones.
        """
        rows = self._checked(served, inputs)
        work = len(rows) * served.network.parameter_count
        if work < INLINE_MULTIPLICATIONS:
            return forward(served.model, rows)
        return await asyncio.to_thread(forward, served.model, rows)

    def _checked(self, served: Served, inputs: object) -> Array:
        """Return rows of the right width, in float64."""
        columns = served.model.network.inputs
        try:
            rows = as_rows(inputs, columns, np.dtype(np.float64))
        except (ShapeError, ValueError, OverflowError) as error:
            raise _wrong_rows(inputs, columns) from error
        if not 1 <= len(rows) <= self._limits.rows_per_call:
            problem = f"a call takes 1 to {self._limits.rows_per_call} rows, got {len(rows)}"
            raise InvalidRequest.at("/inputs", "out_of_range", problem)
        return rows

    async def classify(self, served: Served, inputs: object, top_k: int | None) -> list[Prediction]:
        """Return the class of each row."""
        labels = served.network.labels_in_force
        if not served.network.classes or labels is None:
            problem = (
                f"the last layer is {served.network.output_activation}: its outputs are no "
                "probabilities; use predict"
            )
            raise NotAClassifier(problem)
        outputs = await self.outputs(served, inputs)
        if outputs.shape[1] == 1:
            outputs = np.hstack([1 - outputs, outputs])
        best = outputs.argmax(axis=1).tolist()
        rows = outputs.tolist()
        return [
            Prediction(
                labels[index],
                index,
                row[index],
                row,
                None if top_k is None else _top(labels, row, top_k),
            )
            for index, row in zip(best, rows, strict=True)
        ]

    async def evaluate(self, served: Served, dataset: Dataset) -> dict[str, Any]:
        """Return loss and metrics over a whole dataset."""
        network = served.network
        loss = self._loss(served, dataset.task)
        check_loss(network, loss)
        classes = classes_of(network, dataset)
        rows = await self._datasets.arrays(dataset)
        return await asyncio.to_thread(evaluated, served, loss, classes, rows)

    def _loss(self, served: Served, task: Task) -> Any:
        """Return the loss the version was trained with, or the one that fits."""
        if served.training is not None:
            return served.training["loss"]
        return default_loss(served.network.output_activation, task)

    async def check_gradient(self, served: Served, dataset: Dataset, rows: int) -> dict[str, Any]:
        """Return backpropagation's largest error per layer and parameter, and a verdict."""
        loss = self._loss(served, dataset.task)
        check_loss(served.network, loss)
        classes = classes_of(served.network, dataset)
        inputs, targets = await self._datasets.arrays(dataset)
        some = (inputs[:rows], targets[:rows])
        return await asyncio.to_thread(gradient_checked, served, loss, classes, some)

    async def check_gradient_rows(
        self, served: Served, inputs: list[Any], targets: list[Any]
    ) -> dict[str, Any]:
        """Return the check on rows of the request; numbers are classes where there are some."""
        network = served.network
        rows = self._checked(served, inputs)
        if len(rows) != len(targets):
            problem = f"there are {len(rows)} inputs and {len(targets)} targets"
            raise InvalidRequest.at("/targets", "length_mismatch", problem)
        if len(rows) > self._limits.gradient_check_rows:
            problem = f"at most {self._limits.gradient_check_rows} rows are taken"
            raise InvalidRequest.at("/inputs", "out_of_range", problem)
        raw = json_targets(targets)
        labels = network.labels_in_force
        if labels is not None and (raw.numbers is None or raw.numbers.ndim == 1):
            words = raw.words or [str(int(n)) if n == int(n) else repr(n) for n in targets]
            classes, numbers = list(range(len(labels))), class_numbers(words, labels)
        else:
            classes = None
            numbers = vectors_of(raw, network.units)
        loss = self._loss(served, "regression" if classes is None else "classification")
        check_loss(network, loss)
        return await asyncio.to_thread(gradient_checked, served, loss, classes, (rows, numbers))


def forward(model: Model, rows: Array) -> Array:
    """Return the outputs for raw float64 rows, preprocessing applied both ways.

    Raises
    ------
    InvalidRequest
        When a number leaves the finite ones of the network's dtype.
    """
    engine, preprocessing = model.network, model.preprocessing
    with np.errstate(all="ignore"):  # what is not finite is refused below
        if preprocessing.inputs is not None:
            rows = preprocessing.inputs.apply(rows)
        try:
            outputs = engine.predict(rows)
        except NonFiniteError as error:
            raise engine_fault(error, "inputs") from None
        if preprocessing.targets is not None:
            outputs = preprocessing.targets.invert(outputs)
    finite = np.isfinite(outputs)
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        problem = f"the outputs for row {row} leave the finite numbers of {engine.dtype.name}"
        raise InvalidRequest.at(pointer("inputs", row), "not_finite", problem)
    return outputs


def _wrong_rows(inputs: object, columns: int) -> InvalidRequest:
    """Return which rows are not ``columns`` numbers."""
    rows = inputs if isinstance(inputs, list) else []
    faults = [
        Fault(
            pointer("inputs", index),
            "shape_error",
            f"row {index} must have {columns} numbers, it has "
            f"{len(row) if isinstance(row, list) else 'none'}",
        )
        for index, row in enumerate(rows)
        if not isinstance(row, list) or len(row) != columns
    ][:20]
    if not faults:
        faults = [Fault("/inputs", "out_of_range", f"rows of {columns} finite numbers are due")]
    return InvalidRequest(faults[0].detail, faults)


def _top(labels: list[str], row: list[float], count: int) -> list[tuple[str, float]]:
    """Return the most probable classes, best first."""
    order = sorted(range(len(row)), key=row.__getitem__, reverse=True)
    return [(labels[index], row[index]) for index in order[:count]]
