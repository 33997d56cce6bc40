"""Answers of trained networks."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence, Sized
from itertools import islice
from typing import Any, Final, Protocol, TypeVar, final

import numpy as np

from core.arrays import Array, as_rows
from core.errors import NonFiniteError, ShapeError
from core.formats import Model
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing
from service.application.datasets.datasets import DatasetService
from service.application.datasets.tables import json_targets
from service.application.engine_errors import translate_engine_error
from service.application.inference.evaluation import (
    check_gradient_of,
    check_loss,
    class_numbers,
    evaluate_model,
    vectors_of,
)
from service.application.inference.loaded_model import InferenceStatistics, LoadedModel
from service.application.networks.networks import NetworkService
from service.application.networks.weights import WeightService, run_in_thread_if_large
from service.application.ports import Page
from service.application.training.config import classes_of, default_loss
from service.application.training.live_snapshots import LiveSnapshots
from service.domain.datasets import Dataset, Task
from service.domain.errors import (
    MAX_FIELD_ERRORS,
    ConflictError,
    FieldError,
    InvalidRequestError,
    pointer,
)
from service.domain.limits import Limits
from service.domain.networks import NetworkRecord

INLINE_MULTIPLICATIONS: Final = 4_000_000
"""A forward pass of fewer multiplications takes under a millisecond: not worth a thread."""

INLINE_INPUTS: Final = 50_000
INLINE_OUTPUTS: Final = 10_000
"""So many numbers take a millisecond or two to read, or to write."""

COUNTED_NETWORKS: Final = 1000
COUNTED_VERSIONS: Final = 100
"""What is counted apart, of networks and of the versions of each; the oldest are forgotten."""


Rows = Sequence[Sequence[float]] | Array
Result = TypeVar("Result")


class ModelCache(Protocol):
    """Loaded versions, the least recently used out first.

    Attributes
    ----------
    hits, misses
        Requests that found their version loaded, and versions that had to be.
    """

    hits: int
    misses: int

    def peek(self, key: tuple[str, ...]) -> LoadedModel | None:
        """Return what is loaded under that key."""

    async def get(
        self, key: tuple[str, ...], load: Callable[[], Awaitable[LoadedModel]]
    ) -> LoadedModel:
        """Return what ``load`` gives; many first requests load once."""

    def drop(self, network_id: str) -> None:
        """Forget what is loaded of a network."""

    def __len__(self) -> int:
        """Return how many versions are loaded."""


class NoDefaultNetworkError(ConflictError):
    """A protocol that names no network was called, and none is the default."""

    code = "no_default_network"


@final
class Inference:
    """The use cases.

    Parameters
    ----------
    default
        Name or id of the network that answers where a protocol names none.
    """

    def __init__(
        self,
        networks: NetworkService,
        weights: WeightService,
        datasets: DatasetService,
        cache: ModelCache,
        live_snapshots: LiveSnapshots,
        limits: Limits,
        default: str | None,
    ) -> None:
        self._networks, self._weights, self._datasets = networks, weights, datasets
        self._cache, self._live_snapshots, self._limits = cache, live_snapshots, limits
        self._default = default
        self._statistics: dict[str, dict[int, InferenceStatistics]] = {}
        self._disabled: set[str] = set()

    def get_loaded(self, tenant: str, reference: str, ref: str | None) -> LoadedModel | None:
        """Return a version that is in memory already, without waiting for anything."""
        return self._cache.peek((tenant, reference, ref or ""))

    async def load(self, tenant: str, reference: str, ref: str | None) -> LoadedModel:
        """Return a version, loaded; ``live`` is the newest snapshot of the job now training."""
        if ref == "live":
            return await self._live(tenant, reference)
        return await self._cache.get(
            (tenant, reference, ref or ""), lambda: self._load(tenant, reference, ref)
        )

    async def default_network(self, tenant: str) -> str:
        """Return the network that answers where a protocol names none."""
        if self._default is not None:
            return self._default
        networks = await self._networks.page(tenant, Page(1))
        if len(networks) == 1:
            return networks[0].id
        problem = (
            "this protocol names no network, and there are several"
            if networks
            else "there is no network yet"
        )
        raise NoDefaultNetworkError(f"{problem}; the setting NEUROND_DEFAULT_NETWORK names the one")

    def cache_statistics(self) -> dict[str, float]:
        """Return how many versions are in memory, and how often one was found there or not."""
        cache = self._cache
        return {"loaded": len(cache), "hits": cache.hits, "misses": cache.misses}

    def statistics(self, network_id: str) -> dict[int, InferenceStatistics]:
        """Return what the versions of a network were asked since the server started."""
        return self._statistics.get(network_id, {})

    def set_disabled(self, network_id: str, *, disabled: bool) -> None:
        """Let a network answer no more by protocols that load and unload, or again."""
        if not disabled:
            self._disabled.discard(network_id)
        elif len(self._disabled | {network_id}) > COUNTED_NETWORKS:
            raise ConflictError(f"{COUNTED_NETWORKS} networks are unloaded already; delete those")
        else:
            self._disabled.add(network_id)

    def is_disabled(self, network_id: str) -> bool:
        """Tell whether a client unloaded the network."""
        return network_id in self._disabled

    async def _load(self, tenant: str, reference: str, ref: str | None) -> LoadedModel:
        network, version = await self._networks.version(tenant, reference, ref)
        model = await self._weights.model(network, version)
        return await self._build(network, version.number, model, version.training)

    async def _live(self, tenant: str, reference: str) -> LoadedModel:
        network = await self._networks.get(tenant, reference)
        live = await self._live_snapshots.load(network)
        if live is None:
            return await self.load(tenant, reference, "latest")
        engine = Network.from_spec(network.spec())
        engine.load_bytes(live.snapshot.weights)
        preprocessing = Preprocessing.from_document(
            live.snapshot.preprocessing, engine.inputs, engine.units
        )
        model = Model(engine, None, preprocessing)
        return await self._build(network, live.base_version, model, None)

    async def _build(
        self, network: NetworkRecord, number: int, model: Model, training: dict[str, Any] | None
    ) -> LoadedModel:
        counted = self._statistics.setdefault(network.id, {})
        statistics = counted.setdefault(number, InferenceStatistics())
        while len(counted) > COUNTED_VERSIONS:
            del counted[next(iter(counted))]
        while len(self._statistics) > COUNTED_NETWORKS:
            del self._statistics[next(iter(self._statistics))]
        forward = await run_in_thread_if_large(
            network, lambda: Forward(model.network, model.preprocessing)
        )
        classes = network.effective_labels if network.classes else None
        return LoadedModel(network, number, model, statistics, forward, classes, training)

    async def outputs(self, served: LoadedModel, inputs: Rows) -> Array:
        """Return the outputs for raw rows, (rows, units); raises as `answer` does."""
        return await self.answer(served, inputs, lambda outputs: outputs)

    async def answer(
        self, served: LoadedModel, inputs: Rows, write: Callable[[Array], Result]
    ) -> Result:
        """Return what ``write`` makes of the outputs for raw rows, by a thread where they are many.

        Raises
        ------
        InvalidRequest
            When the rows do not fit, or the numbers leave the finite ones.
        """

        def answered() -> Result:
            return write(forward(served, self._checked(served, inputs)))

        try:
            if fits_inline(served, inputs):
                return answered()
            return await asyncio.to_thread(answered)
        except InvalidRequestError:
            served.statistics.failed()
            raise

    def predict_batch(self, served: LoadedModel, calls: Sequence[Rows]) -> Array:
        """Return the outputs for the rows of some calls, all after another, without waiting.

        Raises
        ------
        InvalidRequest, ValueError
            As `outputs` does, but counted as no failure: the caller asks again there.
        """
        if len(calls) == 1:
            rows = np.array(calls[0], np.float64)
        else:
            rows = np.array([row for call in calls for row in call], np.float64)
        if rows.ndim != 2 or any(
            not 1 <= len(call) <= self._limits.rows_per_call for call in calls
        ):
            raise _wrong_rows(calls[0], served.forward.inputs)
        return forward(served, rows, len(calls))

    def _checked(self, served: LoadedModel, inputs: object) -> Array:
        """Return rows of the right width, in float64."""
        columns = served.forward.inputs
        try:
            rows = as_rows(inputs, columns, np.dtype(np.float64))
        except (ShapeError, ValueError, OverflowError) as error:
            raise _wrong_rows(inputs, columns) from error
        if not 1 <= len(rows) <= self._limits.rows_per_call:
            problem = f"a call takes 1 to {self._limits.rows_per_call} rows, got {len(rows)}"
            raise InvalidRequestError.at("/inputs", "out_of_range", problem)
        return rows

    async def evaluate(self, served: LoadedModel, dataset: Dataset) -> dict[str, Any]:
        """Return loss and metrics over a whole dataset."""
        network = served.network
        loss = self._loss(served, dataset.task)
        check_loss(network, loss)
        classes = classes_of(network, dataset)
        rows = await self._datasets.arrays(dataset)
        return await asyncio.to_thread(evaluate_model, served, loss, classes, rows)

    def _loss(self, served: LoadedModel, task: Task) -> Any:
        """Return the loss the version was trained with, or the one that fits."""
        if served.training is not None:
            return served.training["loss"]
        return default_loss(served.network.output_activation, task)

    async def check_gradient(
        self, served: LoadedModel, dataset: Dataset, rows: int
    ) -> dict[str, Any]:
        """Return backpropagation's largest error per layer and parameter, and a verdict."""
        loss = self._loss(served, dataset.task)
        check_loss(served.network, loss)
        classes = classes_of(served.network, dataset)
        inputs, targets = await self._datasets.arrays(dataset)
        some = (inputs[:rows], targets[:rows])
        return await asyncio.to_thread(check_gradient_of, served, loss, classes, some)

    async def check_gradient_rows(
        self, served: LoadedModel, inputs: list[Any], targets: list[Any]
    ) -> dict[str, Any]:
        """Return the check on rows of the request; numbers are classes where there are some."""
        network = served.network
        rows = self._checked(served, inputs)
        if len(rows) != len(targets):
            problem = f"there are {len(rows)} inputs and {len(targets)} targets"
            raise InvalidRequestError.at("/targets", "length_mismatch", problem)
        if len(rows) > self._limits.gradient_check_rows:
            problem = f"at most {self._limits.gradient_check_rows} rows are taken"
            raise InvalidRequestError.at("/inputs", "out_of_range", problem)
        raw = json_targets(targets)
        labels = network.effective_labels
        if labels is not None and (raw.numbers is None or raw.numbers.ndim == 1):
            words = raw.words or [str(int(n)) if n == int(n) else repr(n) for n in targets]
            classes, numbers = list(range(len(labels))), class_numbers(words, labels)
        else:
            classes = None
            numbers = vectors_of(raw, network.units)
        loss = self._loss(served, "regression" if classes is None else "classification")
        check_loss(network, loss)
        return await asyncio.to_thread(check_gradient_of, served, loss, classes, (rows, numbers))


def fits_inline(served: LoadedModel, rows: Sized) -> bool:
    """Tell whether the rows are answered sooner on the loop than by a thread."""
    count = len(rows)
    if count * served.forward.units > INLINE_OUTPUTS:
        return False
    if count * served.forward.inputs > INLINE_INPUTS:
        return False
    return count == 1 or count * served.network.parameter_count < INLINE_MULTIPLICATIONS


def forward(served: LoadedModel, rows: Array, requests: int = 1) -> Array:
    """Return the outputs for raw float64 rows of some requests, and count the pass.

    Raises
    ------
    InvalidRequest
        When a number leaves the finite ones of the network's dtype.
    """
    begun = time.perf_counter_ns()
    try:
        outputs = served.forward(rows)
    except (NonFiniteError, ShapeError) as error:
        raise translate_engine_error(error, "inputs") from None
    served.statistics.ran(len(rows), time.perf_counter_ns() - begun, requests)
    return outputs


def _wrong_rows(inputs: object, columns: int) -> InvalidRequestError:
    """Return which rows are not ``columns`` numbers."""
    rows = inputs if isinstance(inputs, list) else []
    wrong = (
        FieldError(
            pointer("inputs", index),
            "shape_error",
            f"row {index} must have {columns} numbers, it has "
            f"{len(row) if isinstance(row, list) else 'none'}",
        )
        for index, row in enumerate(rows)
        if not isinstance(row, list) or len(row) != columns
    )
    field_errors = list(islice(wrong, MAX_FIELD_ERRORS))
    if not field_errors:
        field_errors = [
            FieldError("/inputs", "out_of_range", f"rows of {columns} finite numbers are due")
        ]
    return InvalidRequestError(field_errors[0].detail, field_errors)
