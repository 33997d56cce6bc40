"""Jobs: submit, look at, wait for, pause, resume, cancel."""

import asyncio
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response

from service.api.dependencies import (
    Count,
    JobRef,
    OnceOnly,
    Parts,
    Reader,
    Services,
    Trainer,
    Unescaped,
    paged,
)
from service.api.encoding import answer, saved
from service.api.native.jobs.schemas import (
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
from service.api.native.jobs.training_schemas import TrainingBody
from service.api.native.networks.schemas import VersionBody, network_path, version_body
from service.api.schemas import page_links
from service.api.strict import StrictRoute
from service.application.jobs import NewJob
from service.application.ports import Page, SavedAnswer, Work
from service.domain.datasets import Dataset
from service.domain.jobs import Action, Job, Status

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

LONGEST_WAIT = 60.0
Wait = Annotated[
    float | None,
    Query(ge=0.0, le=LONGEST_WAIT, description="Answer at the next change of state, or then."),
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
    parts: Parts,
    owner: Trainer,
    once: OnceOnly,
    dry_run: Annotated[bool, Query(description="Check everything, and store nothing.")] = False,  # noqa: FBT002
) -> Response:
    """Queue a training; it begins as soon as a worker is free."""
    inline = await inline_dataset(parts, owner, body.inputs, body.targets, store=not dry_run)
    asked = asked_of(body.training)
    wanted = NewJob(body.network, asked, body.dataset, inline, body.on_duplicate)
    if dry_run:
        estimate = await parts.jobs.estimate(owner, wanted)
        told = EstimateBody(
            parameters=estimate.parameters,
            memory_bytes=estimate.memory_bytes,
            estimated_seconds=estimate.seconds,
            training=estimate.training,
        )
        return Response(told.model_dump_json(), 200, media_type="application/json")

    async def create(work: Work) -> SavedAnswer:
        job, new = await parts.jobs.submit(work, owner, wanted)
        place = (await parts.jobs.places([job], work)).get(job.id)
        headers = {"Location": f"/v1/jobs/{job.id}"}
        return saved(202 if new else 200, job_body(job, place), headers)

    return answer(await parts.once(once, create))


def asked_of(training: TrainingBody | None) -> dict[str, Any]:
    """Return what was said of a training."""
    return {} if training is None else training.asked()


async def inline_dataset(
    parts: Services,
    owner: str,
    inputs: list[Any] | None,
    targets: list[Any] | None,
    *,
    store: bool = True,
) -> Dataset | None:
    """Return the rows of a body as a dataset that no list shows."""
    if inputs is None or targets is None:
        return None
    table = await asyncio.to_thread(parts.datasets.table_of, inputs, targets, None)
    return await parts.datasets.keep(owner, None, table, hidden=True, store=store)


@router.get("", summary="List jobs")
async def list_jobs(
    request: Request,
    response: Response,
    parts: Parts,
    owner: Reader,
    page: Annotated[Page, paged("job")],
    status: Annotated[Status | None, Query(description="Only jobs in this state.")] = None,
    network: OfNetwork = None,
) -> JobList:
    """Return a page of jobs, newest first."""
    found = await parts.jobs.page(owner, page, status, network)
    ids = [job.id for job in found]
    shown, more = page_links(request, response, found, page.limit, ids)
    places = await parts.jobs.places(shown)
    return JobList(data=[job_body(job, places.get(job.id)) for job in shown], has_more=more)


@router.post("/cancel", summary="Cancel all jobs")
async def cancel_jobs(
    parts: Parts,
    owner: Trainer,
    status: Annotated[
        Literal["queued", "paused", "starting", "running", "pausing"] | None,
        Query(description="Only jobs in this state; else all that have not ended."),
    ] = None,
    network: OfNetwork = None,
) -> CancelledBody:
    """Cancel many jobs in one call, the newest first."""
    wanted = None if status is None else Status(status)
    return CancelledBody(cancelled=await parts.jobs.cancel_all(owner, wanted, network))


async def _told(parts: Services, job: Job) -> JobBody:
    """Return a job with its place in the queue."""
    return job_body(job, (await parts.jobs.places([job])).get(job.id))


@router.get("/{job}", summary="Look at a job, or wait for it")
async def get_job(
    job: JobRef,
    response: Response,
    parts: Parts,
    owner: Reader,
    wait: Wait = None,
    prefer: Prefer = "",
) -> JobBody:
    """Return a job; with ``wait`` at its next change of state, or after so many seconds."""
    seconds = preferred_wait(prefer) if wait is None else wait
    if seconds is None:
        return await _told(parts, await parts.jobs.get(owner, job))
    if wait is None:
        response.headers["Preference-Applied"] = f"wait={seconds:g}"
    return await _told(parts, await parts.jobs.wait(owner, job, seconds))


def preferred_wait(prefer: str) -> float | None:
    """Return the seconds of ``Prefer: wait=20`` (RFC 7240), at most the longest wait."""
    found = re.search(r"(?:^|[,;\s])wait=(\d{1,4})", prefer)
    return None if found is None else min(float(found[1]), LONGEST_WAIT)


async def _act(parts: Services, owner: str, job: str, action: Action) -> JobBody:
    """Move a job as its client wants."""
    return await _told(parts, await parts.jobs.act(owner, job, action))


@router.post("/{job}/cancel", summary="Cancel a job")
async def cancel_job(job: JobRef, parts: Parts, owner: Trainer) -> JobBody:
    """Cancel; the worker is stopped within a second, the best weights stay as a checkpoint."""
    return await _act(parts, owner, job, Action.CANCEL)


@router.post("/{job}/pause", summary="Pause a job")
async def pause_job(job: JobRef, parts: Parts, owner: Trainer) -> JobBody:
    """Pause after this epoch, with a checkpoint."""
    return await _act(parts, owner, job, Action.PAUSE)


@router.post("/{job}/resume", summary="Resume a job")
async def resume_job(job: JobRef, parts: Parts, owner: Trainer) -> JobBody:
    """Queue a paused job again; it goes on to the same bits."""
    return await _act(parts, owner, job, Action.RESUME)


@router.delete("/{job}", status_code=204, summary="Delete a job")
async def delete_job(job: JobRef, parts: Parts, owner: Trainer) -> Response:
    """Delete a job that has ended, with its history; its version stays."""
    await parts.jobs.remove(owner, job)
    return Response(status_code=204)


@router.get("/{job}/history", summary="Look at the epochs")
async def get_history(
    job: JobRef,
    parts: Parts,
    owner: Reader,
    max_points: Annotated[Count, Query(ge=2, le=100_000)] = 500,
    after_epoch: Annotated[Count, Query(ge=0, le=2**31 - 1)] = 0,
) -> HistoryBody:
    """Return the epochs as columns, thinned out to ``max_points``, of which extremes come first."""
    return HistoryBody(**await parts.jobs.history(owner, job, max_points, after_epoch))


@router.get("/{job}/checkpoints", summary="List checkpoints")
async def list_checkpoints(job: JobRef, parts: Parts, owner: Reader) -> CheckpointList:
    """Return the checkpoints that are kept, latest first."""
    found = await parts.checkpoints.of(owner, job)
    return CheckpointList(data=[checkpoint_body(checkpoint) for checkpoint in found])


@router.post(
    "/{job}/checkpoints",
    status_code=201,
    summary="Take a checkpoint now",
    response_model=CheckpointBody,
)
async def take_checkpoint(job: JobRef, parts: Parts, owner: Trainer, once: OnceOnly) -> Response:
    """Take a checkpoint of a running job after its present epoch."""
    taken = job

    async def keep(work: Work) -> SavedAnswer:
        checkpoint = await parts.checkpoints.keep(work, owner, taken)
        location = f"/v1/jobs/{checkpoint.job_id}/checkpoints"
        return saved(201, checkpoint_body(checkpoint), {"Location": location})

    with parts.once.alone(once):
        if await parts.once.replay(once) is None:
            taken = await parts.checkpoints.take(owner, job)
        return answer(await parts.once.keyed(once, keep))


@router.post(
    "/{job}/checkpoints/{checkpoint}/promote",
    status_code=201,
    summary="Make a version of a checkpoint",
    response_model=VersionBody,
)
async def promote_checkpoint(
    job: JobRef, checkpoint: CheckpointId, parts: Parts, owner: Trainer, once: OnceOnly
) -> Response:
    """Add a version with the best weights that the checkpoint holds."""
    first = await parts.once.replay(once)
    if first is not None:
        return answer((first, True))
    best = await parts.checkpoints.best(owner, job, checkpoint)

    async def create(work: Work) -> SavedAnswer:
        network, version = await parts.checkpoints.promote(work, owner, best)
        path = f"{network_path(network)}/versions/{version.number}"
        return saved(201, version_body(network, version), {"Location": path})

    return answer(await parts.once(once, create))
