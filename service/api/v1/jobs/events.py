"""What happens to jobs, as server-sent events and as JSON pages of the same log."""

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
"""How much is sent at once, so that little is held for each client that does not read."""

KEEPALIVE: Final = b": still here\n\n"
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A stream of events, or with Accept: application/json a page of them.",
        "content": {"text/event-stream": {"schema": {}}},
    },
    204: {"description": "Nothing will come any more."},
}
MAX_JOBS_PER_STREAM: Final = 64
MAX_CURSOR_LENGTH: Final = MAX_JOBS_PER_STREAM * len("job_01ARZ3NDEKTSV4RRFFQ69G5FAV:2147483647,")
LastEventId = Annotated[
    str | None, Header(max_length=MAX_CURSOR_LENGTH, description="Go on after this event.")
]
LAST_NUMBER: Final = 2**31 - 1
"""Of an event; the store counts no further."""


@router.get(
    "/jobs/{job}/events",
    summary="Follow a job",
    response_model=EventPage,
    responses=STREAM,
)
async def job_events(
    job: JobRef,
    request: Request,
    services: ServicesDep,
    tenant: ReadTenant,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    last_event_id: LastEventId = None,
    after: Annotated[Count, Query(ge=0, le=LAST_NUMBER, description="As Last-Event-ID.")] = 0,
    limit: Annotated[Count, Query(ge=1, le=1000, description="Of a page.")] = 500,
) -> Response:
    """Follow a job live; ids have neither gap nor repeat, a finished job replays and ends."""
    found = await services.event_streams.get_job(tenant, job)
    if last_event_id:
        after = _event_number(last_event_id)
    if "application/json" in accept and "text/event-stream" not in accept:
        return await _page(services, found, after, limit)
    if found.terminal and after >= found.last_event:
        return Response(status_code=204)
    limit_send_buffer(request.scope)
    return _streaming(services, tenant, _stream(services, found.id, after))


def _streaming(services: Services, tenant: str, events: AsyncIterator[bytes]) -> Response:
    """Return the stream, refused before its first byte where there are too many."""
    with services.rate_limiter.stream(tenant):
        pass  # a client that is gone before the first byte must not keep a place

    async def held() -> AsyncIterator[bytes]:
        with contextlib.suppress(RateLimitedError), services.rate_limiter.stream(tenant):
            async for chunk in events:
                yield chunk

    return StreamingResponse(held(), 200, HEADERS, "text/event-stream")


async def _page(services: Services, job: Job, after: int, limit: int) -> Response:
    """Return one page of events."""
    events: list[EventBody] = []
    cursor = after
    while len(events) <= limit and cursor < job.last_event:
        batches = await services.event_streams.batches(job.id, cursor)
        if not batches:
            break
        for batch in batches:
            for number, kind, data in expanded(batch, cursor):
                events.append(EventBody.model_validate({"id": number, "type": kind, "data": data}))
            cursor = batch.last_id
    more = len(events) > limit
    events = events[:limit]
    last = events[-1].id if events else after
    page = EventPage(data=events, has_more=more, last_event_id=last)
    path = f"/v1/jobs/{job.id}/events?after={last}&limit={limit}"
    headers = {"Link": f'<{path}>; rel="next"'} if more else None
    return Response(page.model_dump_json(), 200, headers, "application/json")


async def _stream(services: Services, job_id: str, after: int) -> AsyncIterator[bytes]:
    """Yield a job's events as they are written."""
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
    """Yield what is sent at once of what goes over the wire: little, and nothing twice."""
    held = b""
    for data in encoded:
        if held and len(held) + len(data) > PART_BYTES:
            yield held
            held = b""
        if len(data) <= PART_BYTES:
            held += data
            continue
        for start in range(0, len(data), PART_BYTES):
            yield memoryview(data)[start : start + PART_BYTES]
    if held:
        yield held


@router.get("/events", summary="Follow several jobs on one connection", responses=STREAM)
async def all_events(
    request: Request,
    services: ServicesDep,
    tenant: ReadTenant,
    job: Annotated[
        list[str],
        Query(
            min_length=1,
            max_length=MAX_JOBS_PER_STREAM,
            openapi_examples={"here": {"value": ["latest"]}},
        ),
    ],
    last_event_id: LastEventId = None,
) -> Response:
    """Follow jobs together; an id names how far each job was read."""
    told = dict(part.partition(":")[::2] for part in (last_event_id or "").split(",") if part)
    cursors, open_jobs = dict[str, int](), set[str]()
    for reference in job:
        found = await services.event_streams.get_job(tenant, reference)
        cursors[found.id] = after = _event_number(told.get(found.id, "0"))
        if not found.terminal or after < found.last_event:
            open_jobs.add(found.id)
    if not open_jobs:
        return Response(status_code=204)
    limit_send_buffer(request.scope)
    return _streaming(services, tenant, _streams(services, cursors, open_jobs))


async def _streams(
    services: Services, told: dict[str, int], open_jobs: set[str]
) -> AsyncIterator[bytes]:
    """Yield the events of the jobs that are open, each with how far all were told."""
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    cursors = {job_id: told[job_id] for job_id in open_jobs}
    async for batches in services.event_streams.follow(cursors):
        chunks = []
        for batch in batches:
            for number, kind, data in expanded(batch, told[batch.job_id]):
                told[batch.job_id] = number
                cursor = ",".join(f"{job_id}:{last}" for job_id, last in told.items())
                chunks.append(event_bytes(cursor, kind, {"job": batch.job_id, **data}))
        yield b"".join(chunks) or KEEPALIVE
    if services.closing.is_set():
        yield event_bytes(None, "end", {"reason": "shutdown"})


def _event_number(text: str) -> int:
    """Return the number of an event."""
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise InvalidRequestError.at("", "invalid_event_id", f"{text[:40]!r} is no event's id")
    return min(int(text), LAST_NUMBER)
