"""The in-memory caches of recent events, and their bounds."""

from service.api.sse import MAX_BYTES, EncodedEvents
from service.application.jobs.event_bus import MAX_WEIGHT, EventBus
from service.domain.jobs import EventBatch, merged


def epochs(job: str, first: int, count: int) -> EventBatch:
    numbers = list(range(first, first + count))
    return EventBatch(job, first, first + count - 1, "epoch", {"epoch": numbers})


def test_buffered_events_of_many_jobs_stay_below_the_maximum_weight() -> None:
    event_bus, size = EventBus(), MAX_WEIGHT // 5

    for job in "abcdef":
        for number in range(3):
            event_bus.publish(epochs(job, 1 + number * size, size))

    buffered = [event_bus.after(job, 2 * size) for job in "abcdef"]
    assert sum(batch.events for batches in buffered for batch in batches or ()) <= MAX_WEIGHT
    assert buffered[0] is None
    assert [batch.first_id for batch in buffered[-1] or ()] == [2 * size + 1]
    assert event_bus._weight == sum(
        batch.events for recent in event_bus._recent.values() for batch in recent
    )


def test_a_batch_above_the_maximum_weight_is_buffered_alone() -> None:
    event_bus = EventBus()
    batch = epochs("a", 1, MAX_WEIGHT + 1)

    event_bus.publish(epochs("b", 1, 5))
    event_bus.publish(batch)

    assert event_bus.after("a", 0) == [batch]
    assert event_bus.after("b", 0) is None
    event_bus.mark_remote("a")
    assert (event_bus.after("a", 0), event_bus._weight) == (None, 0)


def test_boundary_frames_count_toward_the_weight() -> None:
    event_bus, grid = EventBus(), {"grid": "x" * 1_000_000}

    for number in range(1, 30):
        event_bus.publish(EventBatch("a", number, number, "boundary", {"layers": [[grid]]}))

    buffered = event_bus._recent["a"]
    assert 1 <= len(buffered) <= 10
    assert event_bus._weight <= MAX_WEIGHT


def test_a_gap_evicts_the_events_before_it() -> None:
    event_bus = EventBus()
    event_bus.publish(epochs("a", 1, 3))

    event_bus.publish(epochs("a", 9, 2))

    assert event_bus.after("a", 0) is None
    assert event_bus._weight == 2


def test_cached_encodings_stay_below_the_maximum_bytes() -> None:
    events = EncodedEvents()
    long = {"text": "x" * (MAX_BYTES // 4)}

    for number in range(1, 9):
        batch = EventBatch("a", number, number, "log", long)
        assert len(events.of(batch, number - 1)) > MAX_BYTES // 4

    assert sum(map(len, events._encoded.values())) == events._bytes <= MAX_BYTES


def test_merged_encodings_are_cached_for_each_position() -> None:
    events, batch = EncodedEvents(), epochs("a", 1, 5)
    last = EventBatch("a", 5, 5, "epoch", {"epoch": [5]})

    assert b'"merged":5' in events.of(merged(batch, 0), 0)
    assert b'"merged":2' in events.of(merged(batch, 3), 3)
    assert b"merged" not in events.of(last, 4)
