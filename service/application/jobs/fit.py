"""Fit: train a network on data in one request."""

import re
from dataclasses import dataclass, replace
from typing import Any, final

from service.application.datasets.datasets import DatasetService
from service.application.jobs.jobs import JobService, NewJob
from service.application.networks.networks import NetworkService, NewNetwork, UnsavedNetwork
from service.application.ports.database import UnitOfWork
from service.application.training.default_architecture import default_layers
from service.domain.datasets import Dataset
from service.domain.errors import InvalidRequestError
from service.domain.jobs import Job
from service.domain.networks import Metadata, NetworkRecord, Version


@dataclass(frozen=True, slots=True)
class NetworkTemplate:
    """A network to create; what is None follows from the data.

    Attributes
    ----------
    hidden
        Units of each hidden layer.
    """

    input_shape: list[int] | None = None
    layers: list[dict[str, Any]] | None = None
    hidden: list[int] | None = None
    name: str | None = None
    labels: list[str] | None = None
    dtype: str | None = None
    seed: int | None = None
    metadata: Metadata | None = None
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """A validated request: a job, and the network to create for it, if any."""

    job: NewJob
    network: UnsavedNetwork | None


@final
class FitService:
    """The use case."""

    def __init__(
        self, networks: NetworkService, datasets: DatasetService, jobs: JobService
    ) -> None:
        self._networks, self._datasets, self._jobs = networks, datasets, jobs

    async def prepare(
        self,
        tenant: str,
        data: str | Dataset,
        network: str | NetworkTemplate,
        training: dict[str, Any],
    ) -> Fit:
        """Validate a request; `submit` saves it.

        Parameters
        ----------
        data
            A reference, or a hidden dataset with the rows of the request.
        network
            A reference, or a network to create.

        Raises
        ------
        NotFoundError
            If the tenant has no such dataset.
        InvalidRequestError
            If the network cannot be created.
        """
        dataset = await self._datasets.get(tenant, data) if isinstance(data, str) else data
        inline = None if isinstance(data, str) else data
        reference = dataset.id if inline is None else None
        if isinstance(network, str):
            return Fit(NewJob(network, training, reference, inline), None)
        try:
            unsaved = await self._networks.build(tenant, _new_network(network, dataset))
        except InvalidRequestError as error:
            raise _name_hidden(error, network).under("network") from None
        return Fit(NewJob(unsaved.network.id, training, reference, inline), unsaved)

    async def submit(self, work: UnitOfWork, tenant: str, fit: Fit) -> Job:
        """Save the network and queue the job, in one transaction."""
        if fit.network is not None:
            await self._networks.add(work, fit.network)
        job, _ = await self._jobs.submit(work, tenant, fit.job)
        return job

    async def result(self, tenant: str, job: Job) -> tuple[NetworkRecord, Version]:
        """Return the network and the version that a job has produced."""
        return await self._networks.version(tenant, job.network_id, str(job.result_version))


def _new_network(template: NetworkTemplate, dataset: Dataset) -> NewNetwork:
    return NewNetwork(
        template.input_shape or dataset.input_shape,
        template.layers or default_layers(dataset, template.hidden),
        template.name,
        template.labels,
        template.dtype or "float32",
        template.seed,
        template.metadata,
        template.demo,
    )


def _name_hidden(error: InvalidRequestError, template: NetworkTemplate) -> InvalidRequestError:
    """Return an error about layers as one about the hidden units that they were made of."""
    if template.hidden is None:
        return error
    field_errors = [
        replace(item, pointer=re.sub("^/layers(/[0-9]+)?(/units)?$", r"/hidden\1", item.pointer))
        for item in error.field_errors
    ]
    return InvalidRequestError(error.detail, field_errors, code=error.error_code)
