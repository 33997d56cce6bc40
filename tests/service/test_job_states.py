"""The states of a job: only legal transitions and one outcome, in any order of actions."""

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


def test_every_request_and_worker_loss_is_a_legal_transition() -> None:
    for transitions in [*REQUESTS.values(), ON_WORKER_LOSS]:
        for status, to in transitions.items():
            assert to == status or to in TRANSITIONS[status], (status, to)
    assert set(ON_WORKER_LOSS) == LEASED
    assert set(TRANSITIONS) == set(Status)
    assert {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED} == TERMINAL


def test_every_non_terminal_status_has_transitions_and_allows_cancel() -> None:
    for status in set(Status) - TERMINAL:
        assert TRANSITIONS[status]
        if status is not Status.CANCELLING:
            assert Action.CANCEL in allowed_actions(status)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_terminal_status_rejects_all_actions(status: Status) -> None:
    for action in Action:
        if (action, status) == (Action.CANCEL, Status.CANCELLED):
            assert requested(action, status) is status
            continue
        with pytest.raises(InvalidTransitionError) as caught:
            requested(action, status)
        assert caught.value.extra["current_status"] == status


class Row:
    """The database row of a job, changed by compare-and-set like in the database."""

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
    """Return the two steps of an actor: read the job, then change it if the row is unchanged."""

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
    tuple(0 if step in first_steps else 1 for step in range(8))
    for first_steps in itertools.combinations(range(8), 4)
]
"""Every way to interleave two actors of four steps each."""


@pytest.mark.parametrize("first", ACTORS)
@pytest.mark.parametrize("second", ACTORS)
def test_two_actors_in_any_order_give_at_most_one_outcome(first: str, second: str) -> None:
    for start in Status:
        actors = [steps_of("a", ACTORS[first]) * 2, steps_of("b", ACTORS[second]) * 2]
        for order in ORDERS:
            row, seen = Row(start), dict[str, Job]()
            queues = [list(actors[0]), list(actors[1])]
            for actor in order:
                queues[actor].pop(0)(row, seen)
            assert len(row.outcomes) <= 1
            if start in TERMINAL:
                assert row.job.status is start


class JobStateMachine(RuleBasedStateMachine):
    """Clients, workers and crashes in any order, some with stale copies of the job."""

    def __init__(self) -> None:
        super().__init__()
        self.row = Row(Status.QUEUED)
        self.seen = [self.row.job]

    @rule()
    def read(self) -> None:
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


TestJobStateMachine = JobStateMachine.TestCase
TestJobStateMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
