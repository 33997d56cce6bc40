"""Data in, served network out, in one call."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import ConfigDict, Field

from service.api.dependencies import OnceOnly, Parts, Services, Trainer
from service.api.encoding import answer, saved
from service.api.native.jobs.routes import LONGEST_WAIT, asked_of, inline_dataset, preferred_wait
from service.api.native.jobs.schemas import (
    DataBody,
    FitBody,
    FitNetwork,
    JobBody,
    job_body,
)
from service.api.native.jobs.training_schemas import TrainingBody
from service.api.native.networks.schemas import network_body, network_path, version_body
from service.api.strict import StrictRoute
from service.application.fit import suggested
from service.application.idempotency import Request as OnceRequest
from service.application.jobs import NewJob
from service.application.networks import NewNetwork
from service.application.ports import SavedAnswer, Work
from service.domain.datasets import Dataset
from service.domain.errors import InvalidRequest
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
    parts: Parts,
    owner: Trainer,
    once: OnceOnly,
    wait: Annotated[
        float | None,
        Query(ge=0.0, le=LONGEST_WAIT, description="Answer when done, or after so many seconds."),
    ] = None,
    prefer: Annotated[str, Header(description="wait=5 answers when done within 5 s.")] = "",
) -> Response:
    """Build, train and serve; 201 when done within ``wait``, else 202 with the job."""
    with parts.once.alone(once):
        first = await parts.once.replay(once)
        if first is not None:
            return answer((first, True))
        return await _fitted(body, parts, owner, once, (wait, preferred_wait(prefer)))


async def _fitted(
    body: FitRequest,
    parts: Services,
    owner: str,
    once: OnceRequest,
    waits: tuple[float | None, float | None],
) -> Response:
    """Submit, and answer when it is done or the wait, or the preferred one, is over."""
    inline = await inline_dataset(parts, owner, body.inputs, body.targets)
    dataset = inline or await parts.datasets.get(owner, body.dataset or "")
    drawn = None
    if not isinstance(body.network, str):
        try:
            wanted = _wanted(body.network or FitNetwork(), dataset)
            drawn = await parts.networks.draw(owner, wanted)
        except InvalidRequest as error:
            raise _as_hidden(error, body.network).under("network") from None
    reference = body.network if isinstance(body.network, str) else drawn and drawn.network.id

    async def create(work: Work) -> SavedAnswer:
        if drawn is not None:
            await parts.networks.add(work, drawn)
        asked = asked_of(body.training)
        wanted = NewJob(str(reference), asked, None if inline else dataset.id, inline)
        job, _ = await parts.jobs.submit(work, owner, wanted)
        places = await parts.jobs.places([job], work)
        return saved(202, job_body(job, places[job.id]), {"Location": f"/v1/jobs/{job.id}"})

    return await _answered(parts, owner, once, create, waits)


async def _answered(
    parts: Services,
    owner: str,
    once: OnceRequest,
    create: Callable[[Work], Awaitable[SavedAnswer]],
    waits: tuple[float | None, float | None],
) -> Response:
    """Submit, and wait as long as is wanted; what is answered is the first answer from then on."""
    wait, preferred = waits
    seconds = preferred if wait is None else wait
    submitted, replayed = await parts.once.keyed(once, create)
    if seconds is None or replayed:
        return answer((submitted, replayed))
    job_id = submitted.headers["Location"].rpartition("/")[2]
    job = await parts.jobs.finished(owner, job_id, seconds)
    applied = dict(submitted.headers)
    if wait is None:
        applied["Preference-Applied"] = f"wait={seconds:g}"
    if job.status is not Status.SUCCEEDED:
        places = await parts.jobs.places([job])
        now = job_body(job, places.get(job.id)).model_dump_json().encode()
        told = replace(submitted, headers=applied, body=now)
        await parts.once.amend(once, told)
        return answer((told, replayed))
    done = await _done(parts, owner, job, applied)
    await parts.once.amend(once, done)
    return answer((done, replayed))


async def _done(parts: Services, owner: str, job: Job, headers: dict[str, str]) -> SavedAnswer:
    """Return the trained network."""
    network, version = await parts.networks.version(owner, job.network_id, str(job.result_version))
    path = network_path(network)
    told = FitBody(
        network=network_body(network),
        version=version_body(network, version),
        metrics=version.metrics or {},
        job=job_body(job),
        classify_url=f"{path}/{'classify' if network.classes else 'predict'}",
    )
    return saved(201, told, {**headers, "Location": path})


def _as_hidden(error: InvalidRequest, asked: FitNetwork | None) -> InvalidRequest:
    """Return a refusal of layers as one of the hidden units that they were made of."""
    if asked is None or asked.hidden is None:
        return error
    faults = [
        replace(fault, pointer=re.sub("^/layers(/[0-9]+)?(/units)?$", r"/hidden\1", fault.pointer))
        for fault in error.faults
    ]
    return InvalidRequest(error.detail, faults, code=error.error_code)


def _wanted(asked: FitNetwork, dataset: Dataset) -> NewNetwork:
    """Return the network that was asked for, or one that fits the data."""
    layers = [layer.model_dump(exclude_unset=True) for layer in asked.layers or ()]
    return NewNetwork(
        asked.input_shape or dataset.input_shape,
        layers or suggested(dataset, asked.hidden),
        asked.name,
        asked.labels,
        asked.dtype or "float32",
        asked.seed,
        asked.metadata,
    )
