"""The use cases of loaded models: predictions, evaluations and gradient checks."""

import asyncio
from collections.abc import Callable, Sized
from functools import partial
from typing import Any, Final, TypeVar, final

from core.arrays import Array
from core.formats import Model
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing
from service.application.datasets.datasets import DatasetService
from service.application.datasets.tables import json_targets
from service.application.inference.batches import (
    PredictionBatches,
    Rows,
    check_rows,
    forward,
)
from service.application.inference.evaluation import (
    check_gradient_of,
    check_loss,
    class_indices,
    evaluate_model,
    target_vectors,
)
from service.application.inference.loaded_model import InferenceStatistics, LoadedModel
from service.application.networks.networks import NetworkService
from service.application.networks.weights import WeightService, run_in_thread_if_large
from service.application.ports.models import ModelCache
from service.application.ports.repositories import Page
from service.application.training.config import classes_of, column_notes, columns_of, default_loss
from service.application.training.live_snapshots import LiveSnapshots
from service.domain.datasets import Dataset, Task
from service.domain.errors import (
    ConflictError,
    InvalidRequestError,
)
from service.domain.limits import Limits
from service.domain.networks import NetworkRecord

MAX_INLINE_MULTIPLICATIONS: Final = 4_000_000
"""A forward pass with fewer multiplications takes under a millisecond and needs no thread."""

MAX_INLINE_INPUTS: Final = 50_000
MAX_INLINE_OUTPUTS: Final = 10_000
"""Decoding this many inputs, or encoding this many outputs, takes one or two milliseconds."""

MAX_COUNTED_NETWORKS: Final = 1000
MAX_COUNTED_VERSIONS: Final = 100
"""Networks, and versions of each network, with statistics; the oldest are evicted."""

Result = TypeVar("Result")


class NoDefaultNetworkError(ConflictError):
    """A request names no network, and no default network is configured."""

    code = "no_default_network"


@final
class Inference:
    """Loads models and runs predictions, evaluations and gradient checks.

    Parameters
    ----------
    default
        Name or id of the network for protocols that name none.
    """

    def __init__(
        self,
        networks: NetworkService,
        weights: WeightService,
        datasets: DatasetService,
        cache: ModelCache[LoadedModel],
        live_snapshots: LiveSnapshots,
        limits: Limits,
        default: str | None,
    ) -> None:
        self._networks, self._weights, self._datasets = networks, weights, datasets
        self._cache, self._live_snapshots, self._limits = cache, live_snapshots, limits
        self._default = default
        self._batches = PredictionBatches(limits)
        self._statistics: dict[str, dict[int, InferenceStatistics]] = {}
        self._disabled: set[str] = set()

    def get_loaded(self, tenant: str, reference: str | None, ref: str | None) -> LoadedModel | None:
        """Return a version if it is in memory; see `load`."""
        return self._cache.peek((tenant, reference or "", ref or ""))

    async def load(self, tenant: str, reference: str | None, ref: str | None) -> LoadedModel:
        """Return a loaded version.

        Parameters
        ----------
        reference
            Id or name of a network; None is the default network.
        ref
            Number or alias of a version; ``live`` is the newest snapshot of the job that trains the
            network. None is the alias ``stable``, or the latest version.

        Raises
        ------
        NotFoundError
            If the tenant has no such network or version.
        NoDefaultNetworkError
            If no network is named and no default network is configured.
        """
        if ref == "live":
            return await self._live(tenant, reference or await self._default_network(tenant))
        return await self._cache.get(
            (tenant, reference or "", ref or ""), lambda: self._load(tenant, reference, ref)
        )

    async def _default_network(self, tenant: str) -> str:
        """Return the configured default network, or the only network."""
        if self._default is not None:
            return self._default
        networks = await self._networks.page(tenant, Page(1), without_demo=True)
        if len(networks) == 1:
            return networks[0].id
        problem = (
            "the request names no network and there are several"
            if networks
            else "no network exists yet"
        )
        raise NoDefaultNetworkError(
            f"{problem}; set NEUROND_DEFAULT_NETWORK to the one that answers"
        )

    def cache_statistics(self) -> dict[str, float]:
        """Return the number of versions in memory, and the hits and misses of the cache."""
        cache = self._cache
        return {"loaded": len(cache), "hits": cache.hits, "misses": cache.misses}

    def statistics(self, network_id: str) -> dict[int, InferenceStatistics]:
        """Return the statistics of a network by version since the server started."""
        return self._statistics.get(network_id, {})

    def set_disabled(self, network_id: str, *, disabled: bool) -> None:
        """Disable or enable a network for protocols that load and unload models."""
        if not disabled:
            self._disabled.discard(network_id)
        elif len(self._disabled | {network_id}) > MAX_COUNTED_NETWORKS:
            raise ConflictError(
                f"{MAX_COUNTED_NETWORKS} networks are already unloaded; load or delete some"
            )
        else:
            self._disabled.add(network_id)

    def is_disabled(self, network_id: str) -> bool:
        """Return True if a client unloaded the network."""
        return network_id in self._disabled

    async def _load(self, tenant: str, reference: str | None, ref: str | None) -> LoadedModel:
        named = reference or await self._default_network(tenant)
        network, version = await self._networks.version(tenant, named, ref)
        model = await self._weights.model(network, version)
        return await self._build(network, version.number, model, version.training)

    async def _live(self, tenant: str, reference: str) -> LoadedModel:
        network = await self._networks.get(tenant, reference)
        live = await self._live_snapshots.load(network)
        if live is None:
            return await self.load(tenant, reference, "latest")
        engine = Network.from_config(network.config())
        engine.load_bytes(live.snapshot.weights)
        preprocessing = Preprocessing.from_config(
            live.snapshot.preprocessing, engine.inputs, engine.units
        )
        model = Model(engine, None, preprocessing)
        return await self._build(network, live.base_version, model, None)

    async def _build(
        self, network: NetworkRecord, number: int, model: Model, training: dict[str, Any] | None
    ) -> LoadedModel:
        by_version = self._statistics.setdefault(network.id, {})
        statistics = by_version.setdefault(number, InferenceStatistics())
        while len(by_version) > MAX_COUNTED_VERSIONS:
            del by_version[next(iter(by_version))]
        while len(self._statistics) > MAX_COUNTED_NETWORKS:
            del self._statistics[next(iter(self._statistics))]
        forward = await run_in_thread_if_large(
            network, lambda: Forward(model.network, model.preprocessing)
        )
        classes = network.effective_labels if network.classes else None
        return LoadedModel(network, number, model, statistics, forward, classes, training)

    def submit(
        self, model: LoadedModel, rows: Rows, respond: Callable[[Array | Exception], None]
    ) -> None:
        """Predict a few rows at the end of this event-loop iteration; see `PredictionBatches`."""
        self._batches.submit(model, rows, respond)

    def flush(self) -> None:
        """Predict now what would be predicted at the end of this event-loop iteration."""
        self._batches.flush()

    async def predict(
        self, model: LoadedModel, rows: Rows, encode: Callable[[Array], Result]
    ) -> Result:
        """Return ``encode(outputs)`` for raw rows, computed in a thread if they are many.

        Parameters
        ----------
        rows
            (rows, inputs)
        encode
            Receives the outputs, (rows, units).

        Raises
        ------
        InvalidRequestError
            If the rows do not fit the network, or inputs or outputs are not finite.
        """
        if fits_inline(model, rows):
            result: asyncio.Future[Array] = asyncio.get_running_loop().create_future()
            self._batches.submit(model, rows, partial(_resolve, result))
            return encode(await result)
        try:
            return await asyncio.to_thread(
                lambda: encode(forward(model, check_rows(model, rows, self._limits)))
            )
        except InvalidRequestError:
            model.statistics.failed()
            raise

    async def outputs(self, model: LoadedModel, rows: Rows) -> Array:
        """Return the outputs for raw rows, (rows, units); raises as `predict` does."""
        return await self.predict(model, rows, lambda outputs: outputs)

    async def evaluate(self, model: LoadedModel, dataset: Dataset) -> dict[str, Any]:
        """Return loss and metrics over a dataset."""
        network = model.network
        loss = self._loss(model, dataset.task)
        check_loss(network, loss)
        classes = classes_of(network, dataset)
        rows = await self._datasets.arrays(dataset, columns_of(network, dataset))
        report = await asyncio.to_thread(evaluate_model, model, loss, classes, rows)
        return report | {"notes": column_notes(network, dataset)}

    def _loss(self, model: LoadedModel, task: Task) -> Any:
        """Return the loss of the version's training, or the default for its activation."""
        if model.training is not None:
            return model.training["loss"]
        return default_loss(model.network.output_activation, task)

    async def check_gradient(
        self, model: LoadedModel, dataset: Dataset, rows: int
    ) -> dict[str, Any]:
        """Return the gradient check over the first rows of a dataset.

        It has the largest error of backpropagation for each layer and parameter, and a verdict.
        """
        loss = self._loss(model, dataset.task)
        check_loss(model.network, loss)
        classes = classes_of(model.network, dataset)
        columns = columns_of(model.network, dataset)
        inputs, targets = await self._datasets.arrays(dataset, columns)
        sample = (inputs[:rows], targets[:rows])
        return await asyncio.to_thread(check_gradient_of, model, loss, classes, sample)

    async def check_gradient_rows(
        self, model: LoadedModel, inputs: list[Any], targets: list[Any]
    ) -> dict[str, Any]:
        """Return the gradient check over rows of the request.

        For a network with classes, numbers as targets are labels.
        """
        network = model.network
        rows = check_rows(model, inputs, self._limits)
        if len(rows) != len(targets):
            problem = f"expected one target per row, got {len(targets)} for {len(rows)} rows"
            raise InvalidRequestError.at("/targets", "length_mismatch", problem)
        if len(rows) > self._limits.gradient_check_rows:
            problem = f"expected at most {self._limits.gradient_check_rows} rows, got {len(rows)}"
            raise InvalidRequestError.at("/inputs", "out_of_range", problem)
        raw = json_targets(targets)
        labels = network.effective_labels
        if labels is not None and (raw.numbers is None or raw.numbers.ndim == 1):
            words = raw.words or [str(int(n)) if n == int(n) else repr(n) for n in targets]
            classes, numbers = list(range(len(labels))), class_indices(words, labels)
        else:
            classes = None
            numbers = target_vectors(raw, network.units)
        loss = self._loss(model, "regression" if classes is None else "classification")
        check_loss(network, loss)
        return await asyncio.to_thread(check_gradient_of, model, loss, classes, (rows, numbers))


def fits_inline(model: LoadedModel, rows: Sized) -> bool:
    """Return True if predicting the rows on the event loop is faster than in a thread."""
    count = len(rows)
    if count * model.forward.units > MAX_INLINE_OUTPUTS:
        return False
    if count * model.forward.inputs > MAX_INLINE_INPUTS:
        return False
    return count == 1 or count * model.network.parameter_count < MAX_INLINE_MULTIPLICATIONS


def _resolve(result: asyncio.Future[Array], outputs: Array | Exception) -> None:
    """Complete a future, unless its caller is gone."""
    if result.done():
        return
    if isinstance(outputs, Exception):
        result.set_exception(outputs)
    else:
        result.set_result(outputs)
