"""What happens to jobs, as server-sent events and as JSON pages of the same log."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from service.api.dependencies import JobRef, Parts, Reader, Services
from service.api.encoding import json_bytes
from service.api.native.jobs.schemas import EventBody, EventPage
from service.domain.errors import InvalidRequest
from service.domain.jobs import Job, Record

router = APIRouter(prefix="/v1", tags=["jobs"])

BEAT_SECONDS: Final = 15.0
RETRY_MILLISECONDS: Final = 1000
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A stream of events, or with Accept: application/json a page of them.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "Nothing will come any more."},
}
LastEventId = Annotated[str | None, Header(max_length=2000, description="Go on after this event.")]


def expanded(record: Record, after: int) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield a record's events later than ``after``, each with its id."""
    if record.type != "epoch":
        if record.last > after:
            yield record.last, record.type, record.data
        return
    names = tuple(record.data)
    for offset, values in enumerate(zip(*record.data.values(), strict=True)):
        if record.first + offset > after:
            yield record.first + offset, "epoch", dict(zip(names, values, strict=True))


@router.get(
    "/jobs/{job}/events",
    summary="Follow a job",
    response_model=EventPage,
    responses=STREAM,
)
async def job_events(
    job: JobRef,
    parts: Parts,
    owner: Reader,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    last_event_id: LastEventId = None,
    after: Annotated[int, Query(ge=0, le=2**53, description="As Last-Event-ID.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Of a page.")] = 500,
) -> Response:
    """Follow a job live; ids have neither gap nor repeat, a finished job replays and ends."""
    found = await parts.jobs.get(owner, job)
    if last_event_id:
        after = _event_number(last_event_id)
    if "application/json" in accept and "text/event-stream" not in accept:
        return await _page(parts, found, after, limit)
    if found.terminal and after >= found.last_event:
        return Response(status_code=204)
    return StreamingResponse(_stream(parts, found.id, after), 200, HEADERS, "text/event-stream")


async def _page(parts: Services, job: Job, after: int, limit: int) -> Response:
    """Return one page of events."""
    events: list[EventBody] = []
    cursor = after
    while len(events) <= limit and cursor < job.last_event:
        records = await parts.jobs.records(job.id, cursor)
        if not records:
            break
        for record in records:
            for number, kind, data in expanded(record, cursor):
                events.append(EventBody.model_validate({"id": number, "type": kind, "data": data}))
            cursor = record.last
    more = len(events) > limit
    events = events[:limit]
    last = events[-1].id if events else after
    page = EventPage(data=events, has_more=more, last_event_id=last)
    return Response(page.model_dump_json(), 200, media_type="application/json")


async def _stream(parts: Services, job_id: str, after: int) -> AsyncIterator[bytes]:
    """Yield a job's events as they are written down."""
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    cursors, ended = {job_id: after}, False
    async for record in parts.jobs.follow(cursors, beat=BEAT_SECONDS):
        if record is None:
            yield b": still here\n\n"
            continue
        ended = ended or record.type == "end"
        yield b"".join(
            _event(str(number), kind, data) for number, kind, data in expanded(record, after)
        )
        after = record.last
    if not ended and parts.closing.is_set():
        yield _event(None, "end", {"reason": "shutdown"})


@router.get("/events", summary="Follow several jobs on one connection", responses=STREAM)
async def all_events(
    parts: Parts,
    owner: Reader,
    job: Annotated[
        list[str],
        Query(min_length=1, max_length=64, openapi_examples={"here": {"value": ["latest"]}}),
    ],
    last_event_id: LastEventId = None,
) -> Response:
    """Follow jobs together; an id names how far each job was read."""
    cursors = {}
    for reference in job:
        cursors[(await parts.jobs.get(owner, reference)).id] = 0
    for part in (last_event_id or "").split(",") if last_event_id else ():
        job_id, _, number = part.partition(":")
        if job_id in cursors:
            cursors[job_id] = _event_number(number)
    return StreamingResponse(_streams(parts, cursors), 200, HEADERS, "text/event-stream")


async def _streams(parts: Services, cursors: dict[str, int]) -> AsyncIterator[bytes]:
    """Yield the events of several jobs."""
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    told = dict(cursors)
    async for record in parts.jobs.follow(cursors, beat=BEAT_SECONDS):
        if record is None:
            yield b": still here\n\n"
            continue
        chunks = []
        for number, kind, data in expanded(record, told[record.job_id]):
            told[record.job_id] = number
            cursor = ",".join(f"{job_id}:{last}" for job_id, last in told.items())
            chunks.append(_event(cursor, kind, {"job": record.job_id, **data}))
        yield b"".join(chunks)
    if parts.closing.is_set():
        yield _event(None, "end", {"reason": "shutdown"})


def _event(event_id: str | None, kind: str, data: dict[str, Any]) -> bytes:
    """Return one event as it goes over the wire."""
    name = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    return name + b"event: " + kind.encode() + b"\ndata: " + json_bytes(data) + b"\n\n"


def _event_number(text: str) -> int:
    """Return the number of an event."""
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise InvalidRequest.at("", "invalid_event_id", f"{text[:40]!r} is no event's id")
    return int(text)
