"""What is held of jobs' logs in memory: the latest, and never much."""

from service.api.sse import MAX_BYTES, EncodedEvents
from service.application.jobs.event_bus import MAX_WEIGHT, EventBus
from service.domain.jobs import EventBatch, merged


def epochs(job: str, first: int, count: int) -> EventBatch:
    numbers = list(range(first, first + count))
    return EventBatch(job, first, first + count - 1, "epoch", {"epoch": numbers})


def test_of_long_runs_of_many_jobs_no_more_is_kept_than_of_a_few_short_ones() -> None:
    event_bus, size = EventBus(), MAX_WEIGHT // 5

    for job in "abcdef":
        for run in range(3):
            event_bus.publish(epochs(job, 1 + run * size, size))

    kept = [event_bus.after(job, 2 * size) for job in "abcdef"]
    assert sum(batch.events for batches in kept for batch in batches or ()) <= MAX_WEIGHT
    assert kept[0] is None
    assert [batch.first_id for batch in kept[-1] or ()] == [2 * size + 1]
    assert event_bus._weight == sum(
        r.events for recent in event_bus._recent.values() for r in recent
    )


def test_a_single_run_that_is_longer_than_all_that_is_kept_is_told() -> None:
    event_bus = EventBus()
    batch = epochs("a", 1, MAX_WEIGHT + 1)

    event_bus.publish(epochs("b", 1, 5))
    event_bus.publish(batch)

    assert event_bus.after("a", 0) == [batch]
    assert event_bus.after("b", 0) is None
    event_bus.mark_remote("a")
    assert (event_bus.after("a", 0), event_bus._weight) == (None, 0)


def test_frames_weigh_what_they_take() -> None:
    event_bus, grid = EventBus(), {"grid": "x" * 1_000_000}

    for number in range(1, 30):
        event_bus.publish(EventBatch("a", number, number, "boundary", {"layers": [[grid]]}))

    kept = event_bus._recent["a"]
    assert 1 <= len(kept) <= 10
    assert event_bus._weight <= MAX_WEIGHT


def test_a_gap_forgets_what_was_before_it() -> None:
    event_bus = EventBus()
    event_bus.publish(epochs("a", 1, 3))

    event_bus.publish(epochs("a", 9, 2))

    assert event_bus.after("a", 0) is None
    assert event_bus._weight == 2


def test_encoded_records_take_no_more_than_their_bytes() -> None:
    events = EncodedEvents()
    long = {"text": "x" * (MAX_BYTES // 4)}

    for number in range(1, 9):
        batch = EventBatch("a", number, number, "log", long)
        assert len(events.of(batch, number - 1)) > MAX_BYTES // 4

    assert sum(map(len, events._encoded.values())) == events._bytes <= MAX_BYTES


def test_what_is_merged_for_one_is_not_told_to_another() -> None:
    events, batch = EncodedEvents(), epochs("a", 1, 5)
    last = EventBatch("a", 5, 5, "epoch", {"epoch": [5]})

    assert b'"merged":5' in events.of(merged(batch, 0), 0)
    assert b'"merged":2' in events.of(merged(batch, 3), 3)
    assert b"merged" not in events.of(last, 4)
