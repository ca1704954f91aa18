"""What a run undoes, by its own calls: newest first, once each, and what its compensators are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import Branch, durable
from stepwell.core.compensate import names_undone, results_left, work
from stepwell.core.decide import decide
from stepwell.core.decisions import Call
from stepwell.core.journal import item_of
from stepwell.core.state import set_status
from tests.unit.states import failed, retrying, row, run_of, said, undone

if TYPE_CHECKING:
    from stepwell import Workflow
    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState


def order() -> Workflow:
    """A step without a compensator, one with, a parallel and a loop with, and a step that fails."""
    return (
        durable("order")
        .step("look", print)
        .step("reserve", print, compensate=print)
        .parallel("tell", {"message": Branch(print, compensate=print), "text": Branch(print, compensate=print)})
        .loop("pack", print, max_iterations=2, compensate=print)
        .step("ship", print)
    )


FORWARD = [
    row(1, "look"),
    row(2, "reserve", value=b'"seat 7"'),
    row(3, "tell", item="text"),
    row(4, "tell", item="message"),
    row(5, "pack", item=item_of(1), value=b"11", detail=b"next 0 -"),
    row(6, "pack", item=item_of(2), value=b"12", detail=b"end"),
    failed(7, "ship"),
]
NEWEST_FIRST = [("pack", item_of(2)), ("pack", item_of(1)), ("tell", "message"), ("tell", "text"), ("reserve", "")]


def compensating(*rows: JournalRow) -> RunState:
    """The order after its failure, and these rows of what was undone."""
    return run_of(order(), *FORWARD, *rows, status="compensating")


def undone_up_to(count: int) -> list[JournalRow]:
    """The rows of the first that are undone."""
    return [undone(8 + at, node, item=item) for at, (node, item) in enumerate(NEWEST_FIRST[:count])]


def test_after_the_failure_the_run_compensates_before_it_undoes() -> None:
    state = run_of(order(), *FORWARD)
    assert said(state) == ["compensate"]
    set_status(state, "compensating")
    assert said(state) == ["undo pack"]


@pytest.mark.parametrize("count", range(len(NEWEST_FIRST)))
def test_i5_the_newest_that_is_not_undone_is_next(count: int) -> None:
    state = compensating(*undone_up_to(count))
    assert (work(state).node, work(state).item) == NEWEST_FIRST[count]
    (call,) = decide(state, 0)
    assert isinstance(call, Call)
    assert (call.node, call.item, call.phase) == (*NEWEST_FIRST[count], "undo")


def test_when_everything_is_undone_the_run_fails_with_what_failed_first() -> None:
    state = compensating(*undone_up_to(len(NEWEST_FIRST)))
    assert said(state) == ["fail ValueError"]
    assert names_undone(state, "completed") == ("pack", "pack", "message", "text", "reserve")


@pytest.mark.parametrize(("now", "decided"), [(49, "park until 50"), (50, "undo pack, attempt 2")])
def test_a_compensator_is_tried_again_at_its_time(now: int, decided: str) -> None:
    again = retrying(8, "pack", until=50, phase="undo", kind="compensate", item=item_of(2))
    assert said(compensating(again), now) == [decided]


def test_what_cannot_be_undone_is_named_and_the_rest_is_undone() -> None:
    state = compensating(undone(8, "pack", item=item_of(2), status="failed", error=FORWARD[-1].error))
    assert said(state) == ["undo pack"]
    assert names_undone(state, "failed") == ("pack",)
    assert work(state).item == item_of(1)


def test_a_compensator_during_which_workers_died_too_often_fails_and_the_rest_is_undone() -> None:
    state = compensating()
    state.crashes = state.max_crashes
    assert said(state) == [f"record {item_of(2)} failed CrashLimit"]


@pytest.mark.parametrize(("count", "packed"), [(0, b"12"), (1, b"11"), (2, b"12"), (3, b"12"), (4, b"12")])
def test_a_compensator_is_given_what_its_work_gave_and_the_results_as_they_were_left(count: int, packed: bytes) -> None:
    """Of a loop, what the iteration gave that is undone, and afterwards the last one's again."""
    state = compensating(*undone_up_to(count))
    (call,) = decide(state, 0)
    assert isinstance(call, Call)
    left = {"look": b"1", "reserve": b'"seat 7"', "text": b"1", "message": b"1"}
    assert dict(call.results) == {**left, "pack": packed}


def test_the_entries_that_completed_before_another_one_failed_are_undone_and_their_results_are_there() -> None:
    rows = [*FORWARD[:3], failed(4, "tell", item="message")]
    state = run_of(order(), *rows, status="compensating")
    assert said(state) == ["undo text"]
    assert results_left(state)[0] == {"text": b"1"}


def test_a_run_with_nothing_to_undo_fails_at_once() -> None:
    assert said(run_of(order(), row(1, "look"), failed(2, "reserve"))) == ["fail ValueError"]
