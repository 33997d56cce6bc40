"""The states of a job: no illegal move, no double outcome, whoever acts in whatever order."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.domain.errors import InvalidTransitionError
from service.domain.jobs import (
    LEASED,
    ON_WORKER_LOSS,
    REQUESTS,
    TERMINAL,
    TRANSITIONS,
    Action,
    Job,
    Status,
    allowed_actions,
    requested,
)


def job(status: Status) -> Job:
    return Job("job", "o", "n", "n", "d", "d", status, 0, {}, datetime.now(UTC))


def test_every_request_and_every_loss_is_a_legal_move() -> None:
    for moves in [*REQUESTS.values(), ON_WORKER_LOSS]:
        for status, to in moves.items():
            assert to == status or to in TRANSITIONS[status], (status, to)
    assert set(ON_WORKER_LOSS) == LEASED
    assert set(TRANSITIONS) == set(Status)
    assert {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED} == TERMINAL


def test_every_state_that_is_not_terminal_can_be_left_and_be_cancelled() -> None:
    for status in set(Status) - TERMINAL:
        assert TRANSITIONS[status]
        if status is not Status.CANCELLING:
            assert Action.CANCEL in allowed_actions(status)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_nothing_leaves_a_terminal_state(status: Status) -> None:
    for action in Action:
        if (action, status) == (Action.CANCEL, Status.CANCELLED):
            assert requested(action, status) is status
            continue
        with pytest.raises(InvalidTransitionError) as caught:
            requested(action, status)
        assert caught.value.extra["current_status"] == status


class Row:
    """A job's row, moved as the store moves it: by compare-and-set."""

    def __init__(self, status: Status) -> None:
        self.job = job(status)
        self.outcomes: list[Status] = []

    def transition(self, seen: Job, to: Status, *, attempt: int | None = None) -> bool:
        assert to in TRANSITIONS[seen.status], (seen.status, to)
        if (self.job.status, self.job.attempt) != (seen.status, seen.attempt):
            return False
        self.job = replace(
            self.job, status=to, attempt=self.job.attempt if attempt is None else attempt
        )
        if to in TERMINAL:
            self.outcomes.append(to)
        return True


Step = Callable[[Row, dict[str, Job]], None]


def steps_of(name: str, decide: Callable[[Status], Status | None]) -> list[Step]:
    """Return an actor that reads, and then moves what it read: two steps that others may part."""

    def read(row: Row, seen: dict[str, Job]) -> None:
        seen[name] = row.job

    def write(row: Row, seen: dict[str, Job]) -> None:
        to = decide(seen[name].status)
        if to is not None and to in TRANSITIONS[seen[name].status]:
            row.transition(seen[name], to)

    return [read, write]


ACTORS: dict[str, Callable[[Status], Status | None]] = {
    "cancel": lambda status: REQUESTS[Action.CANCEL].get(status),
    "pause": lambda status: REQUESTS[Action.PAUSE].get(status),
    "resume": lambda status: REQUESTS[Action.RESUME].get(status),
    "finish": lambda status: Status.CANCELLED if status is Status.CANCELLING else Status.SUCCEEDED,
    "crash": ON_WORKER_LOSS.get,
    "claim": lambda status: Status.STARTING if status is Status.QUEUED else None,
    "fail": lambda status: Status.CANCELLED if status is Status.CANCELLING else Status.FAILED,
}


ORDERS = [
    tuple(0 if place in queue_positions else 1 for place in range(8))
    for queue_positions in itertools.combinations(range(8), 4)
]
"""Every way to interleave two actors of four steps each."""


@pytest.mark.parametrize("one", ACTORS)
@pytest.mark.parametrize("other", ACTORS)
def test_two_actors_in_any_order_give_one_outcome(one: str, other: str) -> None:
    for start in Status:
        actors = [steps_of("a", ACTORS[one]) * 2, steps_of("b", ACTORS[other]) * 2]
        for order in ORDERS:
            row, seen = Row(start), dict[str, Job]()
            queues = [list(actors[0]), list(actors[1])]
            for turn in order:
                queues[turn].pop(0)(row, seen)
            assert len(row.outcomes) <= 1
            if start in TERMINAL:
                assert row.job.status is start


class Machine(RuleBasedStateMachine):
    """Clients, workers and crashes, in any order, some acting on what they saw long ago."""

    def __init__(self) -> None:
        super().__init__()
        self.row = Row(Status.QUEUED)
        self.seen = [self.row.job]

    @rule()
    def look(self) -> None:
        self.seen.append(self.row.job)

    @rule(actor=st.sampled_from(sorted(ACTORS)), which=st.integers(0, 50))
    def act(self, actor: str, which: int) -> None:
        seen = self.seen[which % len(self.seen)]
        to = ACTORS[actor](seen.status)
        if to is not None and to in TRANSITIONS[seen.status]:
            attempt = seen.attempt + 1 if actor == "claim" else None
            self.row.transition(seen, to, attempt=attempt)

    @invariant()
    def one_outcome_at_most(self) -> None:
        assert len(self.row.outcomes) <= 1
        assert (self.row.job.status in TERMINAL) == bool(self.row.outcomes)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
