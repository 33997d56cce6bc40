"""Weights: versions as the engine has them, as documents and as files of other formats."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar, final, runtime_checkable

from core import formats
from core.errors import EngineError
from core.formats import Model, Reads, Writes, json_format
from core.network import Network
from core.preprocessing import Preprocessing
from service.application.engine_errors import translate_engine_error
from service.application.networks.weight_transfer import check_same_layers, in_dtype_of, not_taken
from service.application.ports import BlobCorruptError, BlobStore
from service.application.training.live_snapshots import LiveSnapshots
from service.domain.errors import (
    ConflictError,
    InvalidRequestError,
    ServiceError,
    UnsupportedMediaTypeError,
)
from service.domain.limits import Limits
from service.domain.networks import NetworkRecord, Version

log = logging.getLogger(__name__)

INLINE_PARAMETERS: Final = 100_000
"""So few are copied in less time than a thread takes to begin."""

Made = TypeVar("Made")
JSON: Final = "application/json"
ANYTHING: Final = frozenset({"", "*/*", "application/*", JSON})


class FormatNotAvailableError(ServiceError):
    """The weights are not offered in that form."""

    code = "not_acceptable"


Parsed = tuple[str, Model]
"""A format's name, and the model that was read."""


@runtime_checkable
class Checks(Protocol):
    """A written format that can hold its files against the network."""

    def check(self, model: Model, data: bytes) -> dict[str, str]:
        """Return what was found, as headers."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A download."""

    data: bytes
    media_type: str
    filename: str
    headers: dict[str, str]


class WeightsCorruptError(ConflictError):
    """A version's weights are not what they were."""

    code = "weights_corrupt"


@final
class WeightService:
    """The use cases.

    Parameters
    ----------
    written, read
        The formats of files that are offered, and taken.
    """

    def __init__(
        self,
        blobs: BlobStore,
        limits: Limits,
        live_snapshots: LiveSnapshots,
        written: Sequence[Writes] = formats.WRITTEN_FORMATS,
        read: Sequence[Reads] = formats.FILE_FORMATS,
    ) -> None:
        self._blobs, self._limits, self._live_snapshots = blobs, limits, live_snapshots
        self._written = {part.type: part for part in written}
        self._read = {part.media_type: part for part in read}
        self._by_suffix = {part.suffix: part for part in read}
        self._damaged: set[str] = set()  # what was told once

    @property
    def media_types(self) -> frozenset[str]:
        """Return the media types of the files that are taken."""
        return frozenset(self._read)

    def offered(self, wanted: str | None, accept: str) -> str:
        """Return the format that a client gets: by name, else the first that it accepts."""
        if wanted is not None:
            if wanted == "json" or wanted in self._written:
                return wanted
        else:
            for part in accept.split(","):
                kind = part.partition(";")[0].strip().lower()
                if kind in ANYTHING:
                    return "json"
                for name, written in self._written.items():
                    if kind == written.media_type:
                        return name
        offers = ", ".join(
            f"{name} ({written.media_type})" for name, written in self._written.items()
        )
        raise FormatNotAvailableError(f"weights are offered as json ({JSON}), {offers}")

    async def exported(self, network: NetworkRecord, version: Version, wanted: str) -> Exported:
        """Return a version as a file."""
        model = await self.model(network, version)
        stem = f"{network.name}-{version.number}"
        if wanted == "json":
            data = await asyncio.to_thread(json_format.write, model)
            return Exported(data, JSON, f"{stem}.json", {})
        written = self._written[wanted]
        headers = {}
        try:
            data = await asyncio.to_thread(written.write, model)
            if isinstance(written, Checks):
                headers = await asyncio.to_thread(written.check, model, data)
        except EngineError as error:
            raise translate_engine_error(error) from None
        return Exported(data, written.media_type, stem + written.suffix, headers)

    async def parsed_file(self, data: bytes, media_type: str) -> Parsed:
        """Return format and model of a file."""
        reader = self._read.get(media_type)
        if reader is None:
            known = ", ".join([JSON, *self._read])
            raise UnsupportedMediaTypeError(
                f"weights are taken as {known}, not as {media_type[:80]!r}"
            )
        return await self._parsed_by(reader, data)

    async def parsed_named(self, data: bytes, suffix: str) -> Parsed:
        """Return format and model of a file, by the suffix of its name."""
        if suffix == ".json":
            try:
                document = await asyncio.to_thread(json.loads, data)
            except (ValueError, RecursionError) as error:
                raise InvalidRequestError(f"the file is no JSON: {error}") from error
            if not isinstance(document, dict):
                raise InvalidRequestError("the file holds no JSON object")
            return await self.parsed(document)
        reader = self._by_suffix.get(suffix)
        if reader is None:
            known = ", ".join([".json", *self._by_suffix])
            raise UnsupportedMediaTypeError(f"a file of weights ends in {known}, not in {suffix!r}")
        return await self._parsed_by(reader, data)

    @property
    def suffixes(self) -> frozenset[str]:
        """Return how files end that are taken."""
        return frozenset({".json", *self._by_suffix})

    async def _parsed_by(self, reader: Reads, data: bytes) -> Parsed:
        try:
            model = await asyncio.to_thread(reader.read, data, self._limits.parameters)
        except EngineError as error:
            raise translate_engine_error(error) from None
        return reader.type, model

    async def parsed(self, document: Mapping[str, Any]) -> Parsed:
        """Return the format and the model of a document whose sizes are looked at first."""
        layers, shape = _outline(document)
        if shape is not None:
            try:
                self._limits.check_network(shape, layers)
            except InvalidRequestError as error:
                raise error.under("network") from None
        try:
            return await asyncio.to_thread(formats.read_document, document)
        except EngineError as error:
            raise translate_engine_error(error) from None

    async def model(self, network: NetworkRecord, version: Version) -> Model:
        """Return a version as the engine has it."""
        # The version `live` is the snapshot of the running job; a promoted checkpoint of the same
        # job is a version of its own, told apart by its digest.
        live = self._live_snapshots.get(network.id)
        ours = live is not None and version.job_id == live.job_id and live.snapshot.weights
        if ours and hashlib.sha256(ours).hexdigest() == version.weights_sha256:
            return await self._loaded(network, version, ours)
        try:
            data = await self._blobs.get(version.weights_sha256)
        except BlobCorruptError as error:
            if ours and not self._blobs.path(version.weights_sha256).exists():
                return await self._loaded(network, version, ours)  # a newer snapshot came meanwhile
            if version.weights_sha256 not in self._damaged:
                self._damaged.add(version.weights_sha256)
                log.error("%s: %s", network.id, error)  # noqa: TRY400 - it has no more to tell
            problem = f"the weights of version {version.number} are damaged: {error}"
            raise WeightsCorruptError(problem) from error
        return await self._loaded(network, version, data)

    @staticmethod
    async def _loaded(network: NetworkRecord, version: Version, data: bytes) -> Model:
        def load() -> Model:
            engine = Network.from_spec(network.spec())
            engine.load_bytes(data)
            labels = network.effective_labels
            preprocessing = Preprocessing.from_document(
                version.preprocessing, engine.inputs, engine.units
            )
            return Model(engine, None if labels is None else tuple(labels), preprocessing)

        return await run_in_thread_if_large(network, load)

    async def load_weights(
        self, network: NetworkRecord, model: Model, *, persist: bool
    ) -> tuple[Version, tuple[str, ...]]:
        """Check weights for a network; the version is not remembered yet."""
        target = Network.from_spec(network.spec())

        def taken() -> bytes:
            check_same_layers(model.network, target)
            target.load_layer_weights(in_dtype_of(target, model.network))
            return target.to_bytes()

        data = await run_in_thread_if_large(network, taken)
        sha256 = await self._blobs.put(data) if persist else hashlib.sha256(data).hexdigest()
        version = Version(
            network.id,
            -1,
            "upload",
            sha256,
            datetime.now(UTC),
            preprocessing=model.preprocessing.to_document(),
        )
        return version, not_taken(model, network, target)


async def run_in_thread_if_large(network: NetworkRecord, work: Callable[[], Made]) -> Made:
    """Return what some work on all parameters gives, by a thread where they are many."""
    if network.parameter_count < INLINE_PARAMETERS:
        return work()
    return await asyncio.to_thread(work)


def _outline(document: Mapping[str, Any]) -> tuple[list[Any], list[int] | None]:
    """Return the layers and the input shape of a native document, as far as it tells them."""
    spec = document.get("network")
    if isinstance(spec, Mapping):
        shape, layers = spec.get("input_shape"), spec.get("layers")
        whole = isinstance(shape, list) and all(type(size) is int for size in shape)
        if whole and isinstance(layers, list):
            return layers, shape
    return [], None
