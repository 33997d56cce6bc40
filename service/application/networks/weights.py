"""The use cases of weights: load, export, parse and upload them."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, final

from core import formats
from core.errors import EngineError
from core.formats import Model, ModelReader, ModelWriter, json_format
from core.network import Network
from core.preprocessing import Preprocessing
from service.application.engine_errors import translate_engine_error
from service.application.networks.weight_transfer import (
    cast_layer_weights,
    check_same_layers,
    transfer_notes,
)
from service.application.ports.blobs import BlobCorruptError, BlobStore
from service.application.ports.models import ExportCheck, ModelFiles
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

MAX_INLINE_PARAMETERS: Final = 100_000
"""Copying fewer parameters takes less time than starting a thread."""

Result = TypeVar("Result")
JSON: Final = "application/json"
JSON_RANGES: Final = frozenset({"", "*/*", "application/*", JSON})
"""Media ranges of an Accept header that select JSON."""


class FormatNotAvailableError(ServiceError):
    """The weights are not available in the requested format."""

    code = "not_acceptable"


Parsed = tuple[str, Model]
"""The name of a format and the parsed model."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A file to download."""

    data: bytes
    media_type: str
    filename: str
    headers: dict[str, str]


class WeightsCorruptError(ConflictError):
    """The stored weights of a version are missing or corrupt."""

    code = "weights_corrupt"


@final
class WeightService:
    """Loads, exports, parses and uploads weights.

    Parameters
    ----------
    model_files
        Reads uploaded files.
    written, read
        The file formats for downloads and for uploads.
    """

    def __init__(
        self,
        blobs: BlobStore,
        limits: Limits,
        live_snapshots: LiveSnapshots,
        model_files: ModelFiles,
        written: Sequence[ModelWriter],
        read: Sequence[ModelReader],
    ) -> None:
        self._blobs, self._limits, self._live_snapshots = blobs, limits, live_snapshots
        self._model_files = model_files
        self._written = {file_format.type: file_format for file_format in written}
        self._read = {file_format.media_type: file_format for file_format in read}
        self._by_suffix = {file_format.suffix: file_format for file_format in read}
        self._corrupt: set[str] = set()  # digests of blobs whose corruption is already logged

    @property
    def media_types(self) -> frozenset[str]:
        """The media types of the supported upload formats."""
        return frozenset(self._read)

    def offered(self, requested: str | None, accept: str) -> str:
        """Return the requested format; for None, the first available one in the Accept header."""
        if requested is not None:
            if requested == "json" or requested in self._written:
                return requested
        else:
            for part in accept.split(","):
                kind = part.partition(";")[0].strip().lower()
                if kind in JSON_RANGES:
                    return "json"
                for name, file_format in self._written.items():
                    if kind == file_format.media_type:
                        return name
        formats_offered = ", ".join(
            f"{name} ({file_format.media_type})" for name, file_format in self._written.items()
        )
        raise FormatNotAvailableError(
            f"weights are available as json ({JSON}), {formats_offered}; request one of these"
        )

    async def exported(self, network: NetworkRecord, version: Version, name: str) -> Exported:
        """Return a version as a file in the format ``name``."""
        model = await self.model(network, version)
        stem = f"{network.name}-{version.number}"
        if name == "json":
            data = await asyncio.to_thread(json_format.write, model)
            return Exported(data, JSON, f"{stem}.json", {})
        file_format = self._written[name]
        headers = {}
        try:
            data = await asyncio.to_thread(file_format.write, model)
            if isinstance(file_format, ExportCheck):
                headers = await asyncio.to_thread(file_format.check, model, data)
        except EngineError as error:
            raise translate_engine_error(error) from None
        return Exported(data, file_format.media_type, stem + file_format.suffix, headers)

    async def parsed_file(self, data: bytes, media_type: str) -> Parsed:
        """Return the format and the model of a file with a media type."""
        reader = self._read.get(media_type)
        if reader is None:
            supported = ", ".join([JSON, *self._read])
            raise UnsupportedMediaTypeError(
                f"unsupported media type {media_type[:80]!r}; expected one of {supported}"
            )
        return await self._parsed_by(reader, data)

    async def parsed_named(self, data: bytes, suffix: str) -> Parsed:
        """Return the format and the model of a file with a suffix such as ".json"."""
        if suffix == ".json":
            try:
                document = await asyncio.to_thread(json.loads, data)
            except (ValueError, RecursionError) as error:
                raise InvalidRequestError(f"invalid JSON: {error}") from error
            if not isinstance(document, dict):
                raise InvalidRequestError("the file must contain a JSON object")
            return await self.parsed(document)
        reader = self._by_suffix.get(suffix)
        if reader is None:
            supported = ", ".join([".json", *self._by_suffix])
            raise UnsupportedMediaTypeError(
                f"unsupported file suffix {suffix!r}; expected one of {supported}"
            )
        return await self._parsed_by(reader, data)

    @property
    def suffixes(self) -> frozenset[str]:
        """The suffixes of supported weights files."""
        return frozenset({".json", *self._by_suffix})

    async def _parsed_by(self, reader: ModelReader, data: bytes) -> Parsed:
        return reader.type, await self._model_files.read(reader.type, data)

    async def parsed(self, document: Mapping[str, Any]) -> Parsed:
        """Return the format and the model of a document; check its sizes before parsing it."""
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
        """Return the model of a version."""
        # The version `live` is the snapshot of the running job. A promoted checkpoint of that job
        # is another version; only the digests distinguish them.
        live = self._live_snapshots.get(network.id)
        snapshot = live is not None and version.job_id == live.job_id and live.snapshot.weights
        if snapshot and hashlib.sha256(snapshot).hexdigest() == version.weights_sha256:
            return await self._load(network, version, snapshot)
        try:
            data = await self._blobs.get(version.weights_sha256)
        except BlobCorruptError as error:
            if snapshot and not self._blobs.path(version.weights_sha256).exists():
                # A newer snapshot has replaced the one of this version.
                return await self._load(network, version, snapshot)
            if version.weights_sha256 not in self._corrupt:
                self._corrupt.add(version.weights_sha256)
                log.error("%s: %s", network.id, error)  # noqa: TRY400 - the traceback adds nothing
            problem = f"the weights of version {version.number} are corrupt: {error}"
            raise WeightsCorruptError(problem) from error
        return await self._load(network, version, data)

    @staticmethod
    async def _load(network: NetworkRecord, version: Version, data: bytes) -> Model:
        def load() -> Model:
            engine = Network.from_config(network.config())
            engine.load_bytes(data)
            labels = network.effective_labels
            preprocessing = Preprocessing.from_config(
                version.preprocessing, engine.inputs, engine.units
            )
            return Model(engine, None if labels is None else tuple(labels), preprocessing)

        return await run_in_thread_if_large(network, load)

    async def load_weights(
        self, network: NetworkRecord, model: Model, *, persist: bool
    ) -> tuple[Version, tuple[str, ...]]:
        """Validate the weights of a model for a network.

        Return the unsaved version, and notes on the parts of the model that were ignored or
        converted. With ``persist=False`` the weights are not stored.
        """
        target = Network.from_config(network.config())

        def transfer() -> bytes:
            check_same_layers(model.network, target)
            target.load_layer_weights(cast_layer_weights(model.network, target))
            return target.to_bytes()

        data = await run_in_thread_if_large(network, transfer)
        sha256 = await self._blobs.put(data) if persist else hashlib.sha256(data).hexdigest()
        version = Version(
            network.id,
            -1,
            "upload",
            sha256,
            datetime.now(UTC),
            preprocessing=model.preprocessing.config(),
        )
        return version, transfer_notes(model, network, target)


async def run_in_thread_if_large(network: NetworkRecord, work: Callable[[], Result]) -> Result:
    """Return the result of ``work``; call it in a thread if the network is large."""
    if network.parameter_count < MAX_INLINE_PARAMETERS:
        return work()
    return await asyncio.to_thread(work)


def _outline(document: Mapping[str, Any]) -> tuple[list[Any], list[int] | None]:
    """Return layers and input shape of a native document; ``[], None`` if they are malformed."""
    config = document.get("network")
    if isinstance(config, Mapping):
        shape, layers = config.get("input_shape"), config.get("layers")
        valid_shape = isinstance(shape, list) and all(type(size) is int for size in shape)
        if valid_shape and isinstance(layers, list):
            return layers, shape
    return [], None
