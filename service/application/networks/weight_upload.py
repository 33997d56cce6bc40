"""Uploading weights to a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from core.formats import Model
from service.application.networks.networks import NetworkService
from service.application.networks.weights import WeightService
from service.domain.networks import NetworkRecord, Version

Precondition = Callable[[NetworkRecord, bytes | None], None]
"""Raises PreconditionFailedError unless a network, and its latest weights as a native document, are
what the client has seen. The document is None if it has changed since it was read."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A new version.

    Attributes
    ----------
    notes
        The parts of the uploaded model that were ignored or converted.
    """

    network: NetworkRecord
    version: Version
    notes: Sequence[str]


@final
class WeightUpload:
    """The use case."""

    def __init__(self, networks: NetworkService, weights: WeightService) -> None:
        self._networks, self._weights = networks, weights

    async def check(
        self, tenant: str, reference: str, model: Model, precondition: Precondition | None
    ) -> Upload:
        """Validate an upload without storing anything."""
        upload, _ = await self._validate(tenant, reference, model, precondition, persist=False)
        return upload

    async def add(
        self, tenant: str, reference: str, model: Model, precondition: Precondition | None
    ) -> Upload:
        """Add a version with the weights of a model.

        Raises
        ------
        NotFoundError
            If the tenant has no such network.
        InvalidRequestError
            If the layers do not have the network's shapes.
        PreconditionFailedError
            If the network or its latest weights are not what the client has seen.
        """
        upload, document = await self._validate(
            tenant, reference, model, precondition, persist=True
        )
        revision = upload.network.revision

        def check_unchanged(network: NetworkRecord) -> None:
            if precondition is not None:
                precondition(network, document if network.revision == revision else None)

        network, version = await self._networks.upload(
            tenant, upload.network.id, upload.version, check_unchanged
        )
        return Upload(network, version, upload.notes)

    async def _validate(
        self,
        tenant: str,
        reference: str,
        model: Model,
        precondition: Precondition | None,
        *,
        persist: bool,
    ) -> tuple[Upload, bytes | None]:
        """Return the unsaved version, and the latest weights if there is a precondition."""
        network = await self._networks.get(tenant, reference)
        version, notes = await self._weights.load_weights(network, model, persist=persist)
        document = None
        if precondition is not None:
            latest_network, latest = await self._networks.version(tenant, network.id, "latest")
            document = (await self._weights.exported(latest_network, latest, "json")).data
            precondition(latest_network, document)
        return Upload(network, version, notes), document
