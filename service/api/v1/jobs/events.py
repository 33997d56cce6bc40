"""The event logs of jobs, as server-sent events and as pages of JSON."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from service.api.dependencies import Count, JobRef, ReadTenant, Services, ServicesDep
from service.api.response_limits import limit_send_buffer
from service.api.sse import event_bytes, expanded
from service.api.v1.jobs.schemas import EventBody, EventPage
from service.application.access.rate_limits import RateLimitedError
from service.domain.errors import InvalidRequestError
from service.domain.jobs import Job

router = APIRouter(prefix="/v1", tags=["jobs"])

RETRY_MILLISECONDS: Final = 1000
PART_BYTES: Final = 8 << 10
"""Maximum bytes per write, which limits the buffer of a client that does not read."""

KEEPALIVE: Final = b": still here\n\n"
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A stream of events, or a page of events for Accept: application/json.",
        "content": {"text/event-stream": {"schema": {}}},
    },
    204: {"description": "The jobs have ended, and all events were received."},
}
MAX_JOBS_PER_STREAM: Final = 64
MAX_CURSOR_LENGTH: Final = MAX_JOBS_PER_STREAM * len("job_01ARZ3NDEKTSV4RRFFQ69G5FAV:2147483647,")
LastEventId = Annotated[
    str | None,
    Header(max_length=MAX_CURSOR_LENGTH, description="Id of the last received event."),
]
MAX_EVENT_ID: Final = 2**31 - 1
"""The largest id that the database can store."""


@router.get(
    "/jobs/{job}/events",
    summary="Stream the events of a job",
    response_model=EventPage,
    responses=STREAM,
)
async def stream_job_events(
    job: JobRef,
    request: Request,
    services: ServicesDep,
    tenant: ReadTenant,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    last_event_id: LastEventId = None,
    after: Annotated[
        Count,
        Query(
            ge=0,
            le=MAX_EVENT_ID,
            description="Id of the last received event; Last-Event-ID overrides it.",
        ),
    ] = 0,
    limit: Annotated[
        Count, Query(ge=1, le=1000, description="Maximum number of events per page of JSON.")
    ] = 500,
) -> Response:
    """Replay the events of a job, then stream new events until the job ends.

    Event ids are consecutive. With ``Accept: application/json``, return a page of events instead.
    """
    record = await services.event_streams.get_job(tenant, job)
    if last_event_id:
        after = _parse_event_id(last_event_id)
    if "application/json" in accept and "text/event-stream" not in accept:
        return await _event_page(services, record, after, limit)
    if record.terminal and after >= record.last_event:
        return Response(status_code=204)
    limit_send_buffer(request.scope)
    return _stream_response(services, tenant, _stream(services, record.id, after))


def _stream_response(services: Services, tenant: str, events: AsyncIterator[bytes]) -> Response:
    """Return a streaming response; raise RateLimitedError if the tenant has too many streams."""
    with services.rate_limiter.stream(tenant):
        pass  # only a check: a client may disconnect before the response starts

    async def counted_events() -> AsyncIterator[bytes]:
        with contextlib.suppress(RateLimitedError), services.rate_limiter.stream(tenant):
            async for chunk in events:
                yield chunk

    return StreamingResponse(counted_events(), 200, HEADERS, "text/event-stream")


async def _event_page(services: Services, job: Job, after: int, limit: int) -> Response:
    """Return a page of events."""
    events: list[EventBody] = []
    cursor = after
    while len(events) <= limit and cursor < job.last_event:
        batches = await services.event_streams.batches(job.id, cursor)
        if not batches:
            break
        for batch in batches:
            for event_id, kind, data in expanded(batch, cursor):
                event = {"id": event_id, "type": kind, "data": data}
                events.append(EventBody.model_validate(event))
            cursor = batch.last_id
    has_more = len(events) > limit
    events = events[:limit]
    last = events[-1].id if events else after
    body = EventPage(data=events, has_more=has_more, last_event_id=last)
    path = f"/v1/jobs/{job.id}/events?after={last}&limit={limit}"
    headers = {"Link": f'<{path}>; rel="next"'} if has_more else None
    return Response(body.model_dump_json(), 200, headers, "application/json")


async def _stream(services: Services, job_id: str, after: int) -> AsyncIterator[bytes]:
    """Yield the events of a job as they are written."""
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    cursors, ended = {job_id: after}, False
    async for batches in services.event_streams.follow(cursors):
        if not batches:
            yield KEEPALIVE
        ended = ended or any(batch.type == "end" for batch in batches)
        for part in parts_of(services.events.of(batch, cursors[job_id]) for batch in batches):
            yield bytes(part)
    if not ended and services.closing.is_set():
        yield event_bytes(None, "end", {"reason": "shutdown"})


def parts_of(encoded: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """Yield the encoded batches in parts of at most `PART_BYTES`.

    Short batches are joined. Long batches are split into views, without a copy.
    """
    buffered = b""
    for data in encoded:
        if buffered and len(buffered) + len(data) > PART_BYTES:
            yield buffered
            buffered = b""
        if len(data) <= PART_BYTES:
            buffered += data
            continue
        for start in range(0, len(data), PART_BYTES):
            yield memoryview(data)[start : start + PART_BYTES]
    if buffered:
        yield buffered


@router.get("/events", summary="Stream the events of several jobs", responses=STREAM)
async def stream_events(
    request: Request,
    services: ServicesDep,
    tenant: ReadTenant,
    job: Annotated[
        list[str],
        Query(
            min_length=1,
            max_length=MAX_JOBS_PER_STREAM,
            description="Ids of the jobs.",
            openapi_examples={"here": {"value": ["latest"]}},
        ),
    ],
    last_event_id: LastEventId = None,
) -> Response:
    """Stream the events of several jobs on one connection.

    Each event id contains the cursors of all jobs. Send the last one as ``Last-Event-ID`` to
    continue.
    """
    received = dict(part.partition(":")[::2] for part in (last_event_id or "").split(",") if part)
    cursors, open_jobs = dict[str, int](), set[str]()
    for reference in job:
        record = await services.event_streams.get_job(tenant, reference)
        cursors[record.id] = after = _parse_event_id(received.get(record.id, "0"))
        if not record.terminal or after < record.last_event:
            open_jobs.add(record.id)
    if not open_jobs:
        return Response(status_code=204)
    limit_send_buffer(request.scope)
    return _stream_response(services, tenant, _stream_all(services, cursors, open_jobs))


async def _stream_all(
    services: Services, sent: dict[str, int], open_jobs: set[str]
) -> AsyncIterator[bytes]:
    """Yield the events of the open jobs.

    Parameters
    ----------
    sent
        The last sent event id of every job, including those that are not open. Each event id is
        made of all of them.
    """
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    cursors = {job_id: sent[job_id] for job_id in open_jobs}
    async for batches in services.event_streams.follow(cursors):
        chunks = []
        for batch in batches:
            for event_id, kind, data in expanded(batch, sent[batch.job_id]):
                sent[batch.job_id] = event_id
                cursor = ",".join(f"{job_id}:{last}" for job_id, last in sent.items())
                chunks.append(event_bytes(cursor, kind, {"job": batch.job_id, **data}))
        yield b"".join(chunks) or KEEPALIVE
    if services.closing.is_set():
        yield event_bytes(None, "end", {"reason": "shutdown"})


def _parse_event_id(text: str) -> int:
    """Return the event id in a text, at most `MAX_EVENT_ID`."""
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise InvalidRequestError.at("", "invalid_event_id", f"{text[:40]!r} is not an event id")
    return min(int(text), MAX_EVENT_ID)
