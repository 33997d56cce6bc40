"""Jobs: create, list, wait for, pause, resume, cancel, delete."""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response

from service.api.dependencies import (
    Count,
    JobRef,
    ReadTenant,
    Services,
    ServicesDep,
    TrainTenant,
    Unescaped,
    paged,
)
from service.api.idempotency import Idempotent, stored
from service.api.routing import IdempotentRoute
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
from service.application.ports.database import UnitOfWork
from service.application.ports.repositories import Page, StoredResponse
from service.domain.jobs import Action, Job, Status

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=IdempotentRoute)

MAX_WAIT_SECONDS = 60.0
Wait = Annotated[
    float | None,
    Query(
        ge=0.0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the next change of status."
    ),
]
Prefer = Annotated[str, Header(description="wait=20 has the same effect.")]
OfNetwork = Annotated[str | None, Query(max_length=200, description="Only of this network.")]
CheckpointId = Annotated[
    str, Unescaped, Path(description='Id of a checkpoint, or "best".', max_length=40)
]


@router.post(
    "",
    status_code=202,
    summary="Create a job",
    response_model=JobBody,
    responses={200: {"model": EstimateBody, "description": "With dry_run: the request is valid."}},
)
async def create_job(
    body: CreateJob,
    services: ServicesDep,
    tenant: TrainTenant,
    creation: Idempotent,
    dry_run: Annotated[bool, Query(description="Validate and estimate, store nothing.")] = False,  # noqa: FBT002
) -> Response:
    """Queue a training job; it starts as soon as a worker is free."""
    inline = None
    if body.inputs is not None and body.targets is not None:
        inline = await services.datasets.from_inline(
            tenant, body.inputs, body.targets, persist=not dry_run
        )
    training = requested_training(body.training)
    new_job = NewJob(
        body.network, training, body.dataset, inline, body.on_duplicate, demo=body.demo
    )
    if dry_run:
        estimate = await services.jobs.estimate(tenant, new_job)
        valid = EstimateBody(
            parameters=estimate.parameters,
            memory_bytes=estimate.memory_bytes,
            estimated_seconds=estimate.seconds,
            training=estimate.training,
        )
        return Response(valid.model_dump_json(), 200, media_type="application/json")

    async def create(work: UnitOfWork) -> StoredResponse:
        job, is_new = await services.jobs.submit(work, tenant, new_job)
        position = (await services.jobs.queue_positions([job], work)).get(job.id)
        headers = {"Location": f"/v1/jobs/{job.id}"}
        return stored(202 if is_new else 200, job_body(job, position), headers)

    return await creation.run(create)


def requested_training(training: TrainingBody | None) -> dict[str, Any]:
    """Return the fields of the training that the client has set."""
    return {} if training is None else training.requested_values()


@router.get("", summary="List jobs")
async def list_jobs(
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: ReadTenant,
    pagination: Annotated[Page, paged("job")],
    status: Annotated[Status | None, Query(description="Only jobs with this status.")] = None,
    network: OfNetwork = None,
) -> JobList:
    """Return a page of jobs, newest first."""
    jobs = await services.jobs.page(tenant, pagination, status, network)
    ids = [job.id for job in jobs]
    shown, more = page_links(request, response, jobs, pagination.limit, ids)
    positions = await services.jobs.queue_positions(shown)
    return JobList(data=[job_body(job, positions.get(job.id)) for job in shown], has_more=more)


@router.post("/cancel", summary="Cancel all jobs")
async def cancel_jobs(
    services: ServicesDep,
    tenant: TrainTenant,
    status: Annotated[
        Literal["queued", "paused", "starting", "running", "pausing"] | None,
        Query(description="Only jobs with this status; by default all that have not ended."),
    ] = None,
    network: OfNetwork = None,
) -> CancelledBody:
    """Cancel many jobs in one request, the newest first."""
    only = None if status is None else Status(status)
    return CancelledBody(cancelled=await services.jobs.cancel_all(tenant, only, network))


@router.get("/{job}", summary="Get a job, or wait for it")
async def get_job(
    job: JobRef,
    response: Response,
    services: ServicesDep,
    tenant: ReadTenant,
    wait: Wait = None,
    prefer: Prefer = "",
) -> JobBody:
    """Return a job; with ``wait`` at its next change of status, or when the time is over."""
    seconds = preferred_wait(prefer) if wait is None else wait
    if seconds is None:
        return await _encode(services, await services.jobs.get(tenant, job))
    if wait is None:
        response.headers["Preference-Applied"] = f"wait={seconds:g}"
    return await _encode(services, await services.jobs.wait(tenant, job, seconds))


def preferred_wait(prefer: str) -> float | None:
    """Return the seconds of ``Prefer: wait=20`` (RFC 7240), at most `MAX_WAIT_SECONDS`."""
    match = re.search(r"(?:^|[,;\s])wait=(\d{1,4})", prefer)
    return None if match is None else min(float(match[1]), MAX_WAIT_SECONDS)


@router.post("/{job}/cancel", summary="Cancel a job")
async def cancel_job(job: JobRef, services: ServicesDep, tenant: TrainTenant) -> JobBody:
    """Cancel a job: its worker stops within a second, its best weights remain as a checkpoint."""
    return await _encode(services, await services.jobs.request(tenant, job, Action.CANCEL))


@router.post("/{job}/pause", summary="Pause a job")
async def pause_job(job: JobRef, services: ServicesDep, tenant: TrainTenant) -> JobBody:
    """Pause a job after its current epoch, with a checkpoint."""
    return await _encode(services, await services.jobs.request(tenant, job, Action.PAUSE))


@router.post("/{job}/resume", summary="Resume a job")
async def resume_job(job: JobRef, services: ServicesDep, tenant: TrainTenant) -> JobBody:
    """Queue a paused job again; it resumes bit-for-bit."""
    return await _encode(services, await services.jobs.request(tenant, job, Action.RESUME))


@router.delete("/{job}", status_code=204, summary="Delete a job")
async def delete_job(job: JobRef, services: ServicesDep, tenant: TrainTenant) -> Response:
    """Delete a job that has ended, with its history; the version that it produced remains."""
    await services.jobs.remove(tenant, job)
    return Response(status_code=204)


@router.get("/{job}/history", summary="Get the history of a job")
async def get_history(
    job: JobRef,
    services: ServicesDep,
    tenant: ReadTenant,
    max_points: Annotated[Count, Query(ge=2, le=100_000)] = 500,
    after_epoch: Annotated[Count, Query(ge=0, le=2**31 - 1)] = 0,
) -> HistoryBody:
    """Return the epochs as columns, downsampled to ``max_points`` with their extremes."""
    return HistoryBody(**await services.jobs.history(tenant, job, max_points, after_epoch))


@router.get("/{job}/checkpoints", summary="List checkpoints")
async def list_checkpoints(
    job: JobRef, services: ServicesDep, tenant: ReadTenant
) -> CheckpointList:
    """Return the best epoch, whose id is "best", and the stored checkpoints, latest first."""
    checkpoints = await services.checkpoints.entries(tenant, job)
    return CheckpointList(data=[checkpoint_body(checkpoint) for checkpoint in checkpoints])


@router.post(
    "/{job}/checkpoints",
    status_code=201,
    summary="Create a checkpoint",
    response_model=CheckpointBody,
)
async def create_checkpoint(
    job: JobRef, services: ServicesDep, tenant: TrainTenant, creation: Idempotent
) -> Response:
    """Take a checkpoint of a running job after its current epoch."""
    checkpoint_id = await services.checkpoints.take(tenant, job)

    async def create(work: UnitOfWork) -> StoredResponse:
        checkpoint = await services.checkpoints.record(work, tenant, checkpoint_id)
        location = f"/v1/jobs/{checkpoint.job_id}/checkpoints"
        return stored(201, checkpoint_body(checkpoint), {"Location": location})

    return await creation.run(create)


@router.post(
    "/{job}/checkpoints/{checkpoint}/promote",
    status_code=201,
    summary="Promote a checkpoint to a version",
    response_model=VersionBody,
)
async def promote_checkpoint(
    job: JobRef,
    checkpoint: CheckpointId,
    services: ServicesDep,
    tenant: TrainTenant,
    creation: Idempotent,
) -> Response:
    """Add a version with the weights and the metrics of the checkpoint."""
    unsaved = await services.checkpoints.version_of(tenant, job, checkpoint)

    async def create(work: UnitOfWork) -> StoredResponse:
        network, version = await services.checkpoints.promote(work, tenant, unsaved)
        path = f"{network_path(network)}/versions/{version.number}"
        return stored(201, version_body(network, version), {"Location": path})

    return await creation.run(create)


async def _encode(services: Services, job: Job) -> JobBody:
    """Return a job with its position in the queue."""
    return job_body(job, (await services.jobs.queue_positions([job])).get(job.id))
