"""Data in, served network out, in one call."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import ConfigDict, Field

from service.api.dependencies import Idempotency, Services, ServicesDep, TrainTenant
from service.api.encoding import answer, saved
from service.api.routing import StrictRoute
from service.api.v1.jobs.routes import (
    MAX_WAIT_SECONDS,
    inline_dataset,
    preferred_wait,
    requested_training,
)
from service.api.v1.jobs.schemas import (
    DataBody,
    FitBody,
    FitNetwork,
    JobBody,
    job_body,
)
from service.api.v1.jobs.training_schemas import TrainingBody
from service.api.v1.networks.schemas import network_body, network_path, version_body
from service.application.access.idempotency import IdempotencyRecord
from service.application.jobs.jobs import NewJob
from service.application.networks.networks import NewNetwork
from service.application.ports import StoredResponse, UnitOfWork
from service.application.training.default_architecture import default_layers
from service.domain.datasets import Dataset
from service.domain.errors import InvalidRequestError
from service.domain.jobs import Job, Status

router = APIRouter(prefix="/v1", tags=["jobs"], route_class=StrictRoute)

XOR: dict[str, Any] = {
    "inputs": [[0, 0], [0, 1], [1, 0], [1, 1]],
    "targets": ["same", "other", "other", "same"],
    "network": {"hidden": [8]},
}


class FitRequest(DataBody):
    """Data, and if you like a network and how to train it."""

    model_config = ConfigDict(json_schema_extra={"examples": [XOR]})

    network: Annotated[str, Field(max_length=200)] | FitNetwork | None = Field(
        None, description="A network to train on, or what to build; else one that fits the data."
    )
    training: TrainingBody | None = None


@router.post(
    "/fit",
    status_code=201,
    summary="Train in one call",
    response_model=FitBody,
    responses={202: {"model": JobBody, "description": "It is still training."}},
)
async def fit(
    body: FitRequest,
    services: ServicesDep,
    tenant: TrainTenant,
    idempotency: Idempotency,
    wait: Annotated[
        float | None,
        Query(
            ge=0.0, le=MAX_WAIT_SECONDS, description="Answer when done, or after so many seconds."
        ),
    ] = None,
    prefer: Annotated[str, Header(description="wait=5 answers when done within 5 s.")] = "",
) -> Response:
    """Build, train and serve; 201 when done within ``wait``, else 202 with the job."""
    with services.idempotent_requests.reserve(idempotency):
        first = await services.idempotent_requests.stored_response(idempotency)
        if first is not None:
            return answer((first, True))
        return await _fitted(body, services, tenant, idempotency, (wait, preferred_wait(prefer)))


async def _fitted(
    body: FitRequest,
    services: Services,
    tenant: str,
    idempotency: IdempotencyRecord,
    waits: tuple[float | None, float | None],
) -> Response:
    """Submit, and answer when it is done or the wait, or the preferred one, is over."""
    inline = await inline_dataset(services, tenant, body.inputs, body.targets)
    dataset = inline or await services.datasets.get(tenant, body.dataset or "")
    unsaved = None
    if not isinstance(body.network, str):
        try:
            wanted = _wanted(body.network or FitNetwork(), dataset)
            unsaved = await services.networks.build(tenant, wanted)
        except InvalidRequestError as error:
            raise _as_hidden(error, body.network).under("network") from None
    reference = body.network if isinstance(body.network, str) else unsaved and unsaved.network.id

    async def create(work: UnitOfWork) -> StoredResponse:
        if unsaved is not None:
            await services.networks.add(work, unsaved)
        asked = requested_training(body.training)
        wanted = NewJob(str(reference), asked, None if inline else dataset.id, inline)
        job, _ = await services.jobs.submit(work, tenant, wanted)
        queue_positions = await services.jobs.queue_positions([job], work)
        return saved(
            202, job_body(job, queue_positions[job.id]), {"Location": f"/v1/jobs/{job.id}"}
        )

    return await _answered(services, tenant, idempotency, create, waits)


async def _answered(
    services: Services,
    tenant: str,
    idempotency: IdempotencyRecord,
    create: Callable[[UnitOfWork], Awaitable[StoredResponse]],
    waits: tuple[float | None, float | None],
) -> Response:
    """Submit, and wait as long as is wanted; what is answered is the first answer from then on."""
    wait, preferred = waits
    seconds = preferred if wait is None else wait
    submitted, replayed = await services.idempotent_requests.run_reserved(idempotency, create)
    if seconds is None or replayed:
        return answer((submitted, replayed))
    job_id = submitted.headers["Location"].rpartition("/")[2]
    job = await services.jobs.finished(tenant, job_id, seconds)
    applied = dict(submitted.headers)
    if wait is None:
        applied["Preference-Applied"] = f"wait={seconds:g}"
    if job.status is not Status.SUCCEEDED:
        queue_positions = await services.jobs.queue_positions([job])
        now = job_body(job, queue_positions.get(job.id)).model_dump_json().encode()
        told = replace(submitted, headers=applied, body=now)
        await services.idempotent_requests.amend(idempotency, told)
        return answer((told, replayed))
    done = await _done(services, tenant, job, applied)
    await services.idempotent_requests.amend(idempotency, done)
    return answer((done, replayed))


async def _done(
    services: Services, tenant: str, job: Job, headers: dict[str, str]
) -> StoredResponse:
    """Return the trained network."""
    network, version = await services.networks.version(
        tenant, job.network_id, str(job.result_version)
    )
    path = network_path(network)
    told = FitBody(
        network=network_body(network),
        version=version_body(network, version),
        metrics=version.metrics or {},
        job=job_body(job),
        classify_url=f"{path}/{'classify' if network.classes else 'predict'}",
    )
    return saved(201, told, {**headers, "Location": path})


def _as_hidden(error: InvalidRequestError, asked: FitNetwork | None) -> InvalidRequestError:
    """Return a refusal of layers as one of the hidden units that they were made of."""
    if asked is None or asked.hidden is None:
        return error
    field_errors = [
        replace(
            field_error,
            pointer=re.sub("^/layers(/[0-9]+)?(/units)?$", r"/hidden\1", field_error.pointer),
        )
        for field_error in error.field_errors
    ]
    return InvalidRequestError(error.detail, field_errors, code=error.error_code)


def _wanted(asked: FitNetwork, dataset: Dataset) -> NewNetwork:
    """Return the network that was asked for, or one that fits the data."""
    layers = [layer.model_dump(exclude_unset=True) for layer in asked.layers or ()]
    return NewNetwork(
        asked.input_shape or dataset.input_shape,
        layers or default_layers(dataset, asked.hidden),
        asked.name,
        asked.labels,
        asked.dtype or "float32",
        asked.seed,
        asked.metadata,
    )
