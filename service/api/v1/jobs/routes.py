"""Jobs: submit, look at, wait for, pause, resume, cancel."""

import asyncio
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response

from service.api.dependencies import (
    Count,
    Idempotency,
    JobRef,
    ReadTenant,
    Services,
    ServicesDep,
    TrainTenant,
    Unescaped,
    paged,
)
from service.api.encoding import answer, saved
from service.api.routing import StrictRoute
from service.api.schemas import page_links
from service.api.v1.jobs.schemas import (
    CancelledBody,
    CheckpointBody,
    CheckpointList,
    CreateJob,
    EstimateBody,
    HistoryBody,
    JobBody,
    JobList,
    checkpoint_body,
    job_body,
)
from service.api.v1.jobs.training_schemas import TrainingBody
from service.api.v1.networks.schemas import VersionBody, network_path, version_body
from service.application.jobs.jobs import NewJob
from service.application.ports import Page, StoredResponse, UnitOfWork
from service.domain.datasets import Dataset
from service.domain.jobs import Action, Job, Status

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

MAX_WAIT_SECONDS = 60.0
Wait = Annotated[
    float | None,
    Query(ge=0.0, le=MAX_WAIT_SECONDS, description="Answer at the next change of state, or then."),
]
Prefer = Annotated[str, Header(description="wait=20 does the same.")]
OfNetwork = Annotated[str | None, Query(max_length=200, description="Only of this network.")]
CheckpointId = Annotated[str, Unescaped, Path(description="Id of a checkpoint.", max_length=40)]


@router.post(
    "",
    status_code=202,
    summary="Train a network",
    response_model=JobBody,
    responses={200: {"model": EstimateBody, "description": "With dry_run: it would be taken."}},
)
async def create_job(
    body: CreateJob,
    services: ServicesDep,
    tenant: TrainTenant,
    idempotency: Idempotency,
    dry_run: Annotated[bool, Query(description="Check everything, and store nothing.")] = False,  # noqa: FBT002
) -> Response:
    """Queue a training; it begins as soon as a worker is free."""
    inline = await inline_dataset(services, tenant, body.inputs, body.targets, persist=not dry_run)
    asked = requested_training(body.training)
    wanted = NewJob(body.network, asked, body.dataset, inline, body.on_duplicate)
    if dry_run:
        estimate = await services.jobs.estimate(tenant, wanted)
        told = EstimateBody(
            parameters=estimate.parameters,
            memory_bytes=estimate.memory_bytes,
            estimated_seconds=estimate.seconds,
            training=estimate.training,
        )
        return Response(told.model_dump_json(), 200, media_type="application/json")

    async def create(work: UnitOfWork) -> StoredResponse:
        job, new = await services.jobs.submit(work, tenant, wanted)
        place = (await services.jobs.queue_positions([job], work)).get(job.id)
        headers = {"Location": f"/v1/jobs/{job.id}"}
        return saved(202 if new else 200, job_body(job, place), headers)

    return answer(await services.idempotent_requests.run(idempotency, create))


def requested_training(training: TrainingBody | None) -> dict[str, Any]:
    """Return what was said of a training."""
    return {} if training is None else training.asked()


async def inline_dataset(
    services: Services,
    tenant: str,
    inputs: list[Any] | None,
    targets: list[Any] | None,
    *,
    persist: bool = True,
) -> Dataset | None:
    """Return the rows of a body as a dataset that no list shows."""
    if inputs is None or targets is None:
        return None
    table = await asyncio.to_thread(services.datasets.table_of, inputs, targets, None)
    return await services.datasets.store(tenant, None, table, hidden=True, persist=persist)


@router.get("", summary="List jobs")
async def list_jobs(
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: ReadTenant,
    page: Annotated[Page, paged("job")],
    status: Annotated[Status | None, Query(description="Only jobs in this state.")] = None,
    network: OfNetwork = None,
) -> JobList:
    """Return a page of jobs, newest first."""
    found = await services.jobs.page(tenant, page, status, network)
    ids = [job.id for job in found]
    shown, more = page_links(request, response, found, page.limit, ids)
    queue_positions = await services.jobs.queue_positions(shown)
    return JobList(
        data=[job_body(job, queue_positions.get(job.id)) for job in shown], has_more=more
    )


@router.post("/cancel", summary="Cancel all jobs")
async def cancel_jobs(
    services: ServicesDep,
    tenant: TrainTenant,
    status: Annotated[
        Literal["queued", "paused", "starting", "running", "pausing"] | None,
        Query(description="Only jobs in this state; else all that have not ended."),
    ] = None,
    network: OfNetwork = None,
) -> CancelledBody:
    """Cancel many jobs in one call, the newest first."""
    wanted = None if status is None else Status(status)
    return CancelledBody(cancelled=await services.jobs.cancel_all(tenant, wanted, network))


async def _told(services: Services, job: Job) -> JobBody:
    """Return a job with its place in the queue."""
    return job_body(job, (await services.jobs.queue_positions([job])).get(job.id))


@router.get("/{job}", summary="Look at a job, or wait for it")
async def get_job(
    job: JobRef,
    response: Response,
    services: ServicesDep,
    tenant: ReadTenant,
    wait: Wait = None,
    prefer: Prefer = "",
) -> JobBody:
    """Return a job; with ``wait`` at its next change of state, or after so many seconds."""
    seconds = preferred_wait(prefer) if wait is None else wait
    if seconds is None:
        return await _told(services, await services.jobs.get(tenant, job))
    if wait is None:
        response.headers["Preference-Applied"] = f"wait={seconds:g}"
    return await _told(services, await services.jobs.wait(tenant, job, seconds))


def preferred_wait(prefer: str) -> float | None:
    """Return the seconds of ``Prefer: wait=20`` (RFC 7240), at most the longest wait."""
    found = re.search(r"(?:^|[,;\s])wait=(\d{1,4})", prefer)
    return None if found is None else min(float(found[1]), MAX_WAIT_SECONDS)


async def _act(services: Services, tenant: str, job: str, action: Action) -> JobBody:
    """Move a job as its client wants."""
    return await _told(services, await services.jobs.request(tenant, job, action))


@router.post("/{job}/cancel", summary="Cancel a job")
async def cancel_job(job: JobRef, services: ServicesDep, tenant: TrainTenant) -> JobBody:
    """Cancel; the worker is stopped within a second, the best weights stay as a checkpoint."""
    return await _act(services, tenant, job, Action.CANCEL)


@router.post("/{job}/pause", summary="Pause a job")
async def pause_job(job: JobRef, services: ServicesDep, tenant: TrainTenant) -> JobBody:
    """Pause after this epoch, with a checkpoint."""
    return await _act(services, tenant, job, Action.PAUSE)


@router.post("/{job}/resume", summary="Resume a job")
async def resume_job(job: JobRef, services: ServicesDep, tenant: TrainTenant) -> JobBody:
    """Queue a paused job again; it goes on to the same bits."""
    return await _act(services, tenant, job, Action.RESUME)


@router.delete("/{job}", status_code=204, summary="Delete a job")
async def delete_job(job: JobRef, services: ServicesDep, tenant: TrainTenant) -> Response:
    """Delete a job that has ended, with its history; its version stays."""
    await services.jobs.remove(tenant, job)
    return Response(status_code=204)


@router.get("/{job}/history", summary="Look at the epochs")
async def get_history(
    job: JobRef,
    services: ServicesDep,
    tenant: ReadTenant,
    max_points: Annotated[Count, Query(ge=2, le=100_000)] = 500,
    after_epoch: Annotated[Count, Query(ge=0, le=2**31 - 1)] = 0,
) -> HistoryBody:
    """Return the epochs as columns, thinned out to ``max_points``, of which extremes come first."""
    return HistoryBody(**await services.jobs.history(tenant, job, max_points, after_epoch))


@router.get("/{job}/checkpoints", summary="List checkpoints")
async def list_checkpoints(
    job: JobRef, services: ServicesDep, tenant: ReadTenant
) -> CheckpointList:
    """Return the checkpoints that are kept, latest first."""
    found = await services.checkpoints.of(tenant, job)
    return CheckpointList(data=[checkpoint_body(checkpoint) for checkpoint in found])


@router.post(
    "/{job}/checkpoints",
    status_code=201,
    summary="Take a checkpoint now",
    response_model=CheckpointBody,
)
async def take_checkpoint(
    job: JobRef, services: ServicesDep, tenant: TrainTenant, idempotency: Idempotency
) -> Response:
    """Take a checkpoint of a running job after its present epoch."""
    taken = job

    async def keep(work: UnitOfWork) -> StoredResponse:
        checkpoint = await services.checkpoints.record(work, tenant, taken)
        location = f"/v1/jobs/{checkpoint.job_id}/checkpoints"
        return saved(201, checkpoint_body(checkpoint), {"Location": location})

    with services.idempotent_requests.reserve(idempotency):
        if await services.idempotent_requests.stored_response(idempotency) is None:
            taken = await services.checkpoints.take(tenant, job)
        return answer(await services.idempotent_requests.run_reserved(idempotency, keep))


@router.post(
    "/{job}/checkpoints/{checkpoint}/promote",
    status_code=201,
    summary="Make a version of a checkpoint",
    response_model=VersionBody,
)
async def promote_checkpoint(
    job: JobRef,
    checkpoint: CheckpointId,
    services: ServicesDep,
    tenant: TrainTenant,
    idempotency: Idempotency,
) -> Response:
    """Add a version with the best weights that the checkpoint holds."""
    first = await services.idempotent_requests.stored_response(idempotency)
    if first is not None:
        return answer((first, True))
    best = await services.checkpoints.best(tenant, job, checkpoint)

    async def create(work: UnitOfWork) -> StoredResponse:
        network, version = await services.checkpoints.promote(work, tenant, best)
        path = f"{network_path(network)}/versions/{version.number}"
        return saved(201, version_body(network, version), {"Location": path})

    return answer(await services.idempotent_requests.run(idempotency, create))
