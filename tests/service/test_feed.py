"""What is held of jobs' logs in memory: the latest, and never much."""

from service.api.native.jobs.event_encoding import BYTES_KEPT, EncodedEvents
from service.application.feed import WEIGHT_KEPT, Feed
from service.domain.jobs import Record, merged


def epochs(job: str, first: int, count: int) -> Record:
    numbers = list(range(first, first + count))
    return Record(job, first, first + count - 1, "epoch", {"epoch": numbers})


def test_of_long_runs_of_many_jobs_no_more_is_kept_than_of_a_few_short_ones() -> None:
    feed, size = Feed(), WEIGHT_KEPT // 5

    for job in "abcdef":
        for run in range(3):
            feed.publish(epochs(job, 1 + run * size, size))

    kept = [feed.after(job, 2 * size) for job in "abcdef"]
    assert sum(record.events for records in kept for record in records or ()) <= WEIGHT_KEPT
    assert kept[0] is None
    assert [record.first for record in kept[-1] or ()] == [2 * size + 1]
    assert feed._weight == sum(r.events for recent in feed._recent.values() for r in recent)


def test_a_single_run_that_is_longer_than_all_that_is_kept_is_told() -> None:
    feed = Feed()
    record = epochs("a", 1, WEIGHT_KEPT + 1)

    feed.publish(epochs("b", 1, 5))
    feed.publish(record)

    assert feed.after("a", 0) == [record]
    assert feed.after("b", 0) is None
    feed.elsewhere("a")
    assert (feed.after("a", 0), feed._weight) == (None, 0)


def test_frames_weigh_what_they_take() -> None:
    feed, grid = Feed(), {"grid": "x" * 1_000_000}

    for number in range(1, 30):
        feed.publish(Record("a", number, number, "boundary", {"layers": [[grid]]}))

    kept = feed._recent["a"]
    assert 1 <= len(kept) <= 10
    assert feed._weight <= WEIGHT_KEPT


def test_a_gap_forgets_what_was_before_it() -> None:
    feed = Feed()
    feed.publish(epochs("a", 1, 3))

    feed.publish(epochs("a", 9, 2))

    assert feed.after("a", 0) is None
    assert feed._weight == 2


def test_encoded_records_take_no_more_than_their_bytes() -> None:
    events = EncodedEvents()
    long = {"text": "x" * (BYTES_KEPT // 4)}

    for number in range(1, 9):
        record = Record("a", number, number, "log", long)
        assert len(events.of(record, number - 1)) > BYTES_KEPT // 4

    assert sum(map(len, events._encoded.values())) == events._bytes <= BYTES_KEPT


def test_what_is_merged_for_one_is_not_told_to_another() -> None:
    events, record = EncodedEvents(), epochs("a", 1, 5)
    last = Record("a", 5, 5, "epoch", {"epoch": [5]})

    assert b'"merged":5' in events.of(merged(record, 0), 0)
    assert b'"merged":2' in events.of(merged(record, 3), 3)
    assert b"merged" not in events.of(last, 4)
