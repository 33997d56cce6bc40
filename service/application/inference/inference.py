"""Answers of trained networks."""

import asyncio
from collections.abc import Awaitable, Callable, Sized
from functools import partial
from typing import Any, Final, Protocol, TypeVar, final

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
    ConflictError,
    InvalidRequestError,
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
            network. None is the version that answers if none is named.

        Raises
        ------
        NotFoundError
            If the tenant has no such network or version.
        NoDefaultNetworkError
            If no network is named and none is the default.
        """
        if ref == "live":
            return await self._live(tenant, reference or await self._default_network(tenant))
        return await self._cache.get(
            (tenant, reference or "", ref or ""), lambda: self._load(tenant, reference, ref)
        )

    async def _default_network(self, tenant: str) -> str:
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
        raise NoDefaultNetworkError(
            f"{problem}; set NEUROND_DEFAULT_NETWORK to the one that answers"
        )

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
        rows = check_rows(served, inputs, self._limits)
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


def _resolve(result: asyncio.Future[Array], outputs: Array | Exception) -> None:
    """Complete a future, unless its caller is gone."""
    if result.done():
        return
    if isinstance(outputs, Exception):
        result.set_exception(outputs)
    else:
        result.set_result(outputs)
