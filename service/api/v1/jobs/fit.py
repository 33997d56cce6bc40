"""Fit: data in, a trained and served network out, in one request."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import ConfigDict, Field

from service.api.dependencies import Services, ServicesDep, TrainTenant
from service.api.idempotency import Idempotent, replay, stored
from service.api.routing import IdempotentRoute
from service.api.v1.jobs.routes import MAX_WAIT_SECONDS, preferred_wait, requested_training
from service.api.v1.jobs.schemas import DataBody, FitBody, FitNetwork, JobBody, job_body
from service.api.v1.jobs.training_schemas import TrainingBody
from service.api.v1.networks.schemas import network_body, network_path, version_body
from service.application.jobs.fit import Fit, NetworkTemplate
from service.application.ports.database import UnitOfWork
from service.application.ports.repositories import StoredResponse
from service.domain.datasets import Dataset
from service.domain.jobs import Job, Status

router = APIRouter(prefix="/v1", tags=["jobs"], route_class=IdempotentRoute)

XOR: dict[str, Any] = {
    "inputs": [[0, 0], [0, 1], [1, 0], [1, 1]],
    "targets": ["same", "other", "other", "same"],
    "network": {"hidden": [8]},
}


class FitRequest(DataBody):
    """Data, and optionally a network and how to train it."""

    model_config = ConfigDict(json_schema_extra={"examples": [XOR]})

    network: Annotated[str, Field(max_length=200)] | FitNetwork | None = Field(
        None,
        description="A network to train, or one to create. By default one is created for the data.",
    )
    training: TrainingBody | None = None


@router.post(
    "/fit",
    status_code=201,
    summary="Fit a network",
    response_model=FitBody,
    responses={202: {"model": JobBody, "description": "The job is still running."}},
)
async def fit_network(
    body: FitRequest,
    services: ServicesDep,
    tenant: TrainTenant,
    creation: Idempotent,
    wait: Annotated[
        float | None,
        Query(ge=0.0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the job."),
    ] = None,
    prefer: Annotated[str, Header(description="wait=5 waits at most 5 s for the job.")] = "",
) -> Response:
    """Create a network, train it and serve it.

    Returns 201 if the job succeeds within the wait, and 202 with the job otherwise.
    """
    fit = await _prepare(body, services, tenant)

    async def create(work: UnitOfWork) -> StoredResponse:
        job = await services.fit.submit(work, tenant, fit)
        position = (await services.jobs.queue_positions([job], work))[job.id]
        return stored(202, job_body(job, position), {"Location": f"/v1/jobs/{job.id}"})

    preferred = preferred_wait(prefer) if wait is None else None
    seconds = preferred if wait is None else wait
    if seconds is None:
        return await creation.run(create)
    submitted, replayed = await creation.submit(create)
    if replayed:
        return replay(submitted)
    headers = dict(submitted.headers)
    if preferred is not None:
        headers["Preference-Applied"] = f"wait={seconds:g}"
    job_id = submitted.headers["Location"].rpartition("/")[2]
    job = await services.jobs.finished(tenant, job_id, seconds)
    return await creation.amend(await _result(services, tenant, job, headers))


async def _prepare(body: FitRequest, services: Services, tenant: str) -> Fit:
    """Return the validated request."""
    data: str | Dataset = body.dataset or ""
    if body.inputs is not None and body.targets is not None:
        data = await services.datasets.from_inline(tenant, body.inputs, body.targets)
    network = body.network if isinstance(body.network, str) else _template(body.network)
    return await services.fit.prepare(tenant, data, network, requested_training(body.training))


def _template(network: FitNetwork | None) -> NetworkTemplate:
    """Return the network to create."""
    if network is None:
        return NetworkTemplate()
    fields = {name: getattr(network, name) for name in FitNetwork.model_fields}
    if network.layers is not None:
        fields["layers"] = [layer.model_dump(exclude_unset=True) for layer in network.layers]
    return NetworkTemplate(**fields)


async def _result(
    services: Services, tenant: str, job: Job, headers: dict[str, str]
) -> StoredResponse:
    """Return the network if the job has succeeded, and the job otherwise."""
    if job.status is not Status.SUCCEEDED:
        positions = await services.jobs.queue_positions([job])
        return stored(202, job_body(job, positions.get(job.id)), headers)
    network, version = await services.fit.result(tenant, job)
    path = network_path(network)
    body = FitBody(
        network=network_body(network),
        version=version_body(network, version),
        metrics=version.metrics or {},
        job=job_body(job),
        classify_url=f"{path}/{'classify' if network.classes else 'predict'}",
    )
    return stored(201, body, {**headers, "Location": path})
