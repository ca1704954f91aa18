"""Journals that nobody wrote, folded: which row cannot come there is told; a status only changes by the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepwell import JournalError, durable
from stepwell.core.compensate import failure_of
from stepwell.core.decide import decide
from stepwell.core.decisions import Compensate
from stepwell.core.journal import JournalRow, item_of
from stepwell.core.plan import plan_of
from stepwell.core.state import RunState, replay, set_status
from stepwell.errors import Failure
from stepwell.store.codec import PLAIN
from tests.unit.states import row, run_of, undone

if TYPE_CHECKING:
    from stepwell.core.journal import Phase

BROKEN = Failure("last", "ValueError", "no")


def state_of(**facts: object) -> RunState:
    """A fresh run of two steps that can be undone, and a third one."""
    flow = (
        durable("flow")
        .step("first", print, compensate=print)
        .step("second", print, compensate=print)
        .step("last", print)
    )
    state = run_of(flow)
    for name, value in facts.items():
        setattr(state, name, value)
    return state


def part(seq: int, node: str, phase: Phase = "do") -> JournalRow:
    """A sub-step's row."""
    return row(seq, node, kind="sub", phase=phase)._replace(name="part#1")


FORWARD = [row(1, "first"), row(2, "second")]
FAILED = row(3, "last", status="failed", value=None, error=BROKEN)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*FORWARD, undone(3, "second")], "row 3 undoes 'second' out of order"),
        ([FAILED._replace(seq=1, node="first"), undone(2, "first")], "row 2 undoes 'first' out of order"),
        ([*FORWARD, FAILED, undone(4, "first")], "row 4 undoes 'first' out of order"),
        ([row(1, "last")], "row 1 is of node 'last', which is not where the run is"),
        ([*FORWARD, row(3, "last"), row(4, "last")], "row 4 is of node 'last', which is not where the run is"),
        ([row(1, "first")._replace(name="part#1")], "row 1 is no whole completed row"),
        ([row(1, "first", kind="sub")], "row 1 is no whole completed row"),
        ([part(1, "first"), part(2, "first")], "row 2 is a sub-step that cannot come there in node 'first'"),
        ([part(1, "first")._replace(item="air")], "row 1 is a sub-step that cannot come there in node 'first'"),
        ([row(1, "first"), part(2, "first")], "row 2 is of node 'first', which is not where the run is"),
        ([*FORWARD, FAILED, part(4, "first", phase="undo")], "row 4 undoes 'first' out of order"),
    ],
    ids=[
        "before a failure",
        "what never completed",
        "not the newest",
        "ahead",
        "after the end",
        "a sub-step of a kind that has none",
        "a sub-step without a name",
        "a sub-step twice",
        "a sub-step of an entry in a plain step",
        "a sub-step after its outcome",
        "a sub-step of an undoing out of order",
    ],
)
def test_i5_a_row_that_cannot_come_there_is_named(rows: list[JournalRow], said: str) -> None:
    with pytest.raises(JournalError, match=said):
        replay(state_of(), rows)


def test_i5_what_is_undone_newest_first_is_no_damage() -> None:
    state = state_of(status="compensating")
    replay(state, [*FORWARD, FAILED, undone(4, "second"), undone(5, "first")])
    assert (state.undoable, state.failed) == ([], FAILED)


def test_an_outcome_of_an_entry_that_a_parallel_does_not_have_is_named() -> None:
    flow = durable("flow").parallel("both", {"air": print, "sea": print})
    state = run_of(flow)
    with pytest.raises(JournalError, match="row 1 cannot come there in node 'both'"):
        replay(state, [row(1, "both", item="rail")])


@pytest.mark.parametrize("kind", ["parallel", "loop"])
def test_a_condition_that_failed_for_good_is_read_again(kind: str) -> None:
    """A worker that dies while such a run compensates would leave it to workers that call it damaged."""
    flow = durable("flow").step("first", print, compensate=print)
    if kind == "parallel":
        flow.parallel("rest", {"air": print}, when=print)
    else:
        flow.loop("rest", print, max_iterations=2, when=print)
    state = RunState("run-7", 1, plan_of(flow.name, flow.nodes), "ann", b"{}", PLAIN, "compensating")
    rows = [row(1, "first"), row(2, "rest", status="failed", value=None, error=BROKEN)]
    replay(state, rows)
    assert state.failed == rows[-1]


def test_a_status_that_cannot_follow_is_refused() -> None:
    with pytest.raises(JournalError, match="it is completed and cannot become running"):
        set_status(state_of(status="completed"), "running")


@pytest.mark.parametrize("failed", [None, FAILED._replace(error=None)])
def test_a_failure_that_the_journal_does_not_name_is_told_as_that(failed: JournalRow | None) -> None:
    assert failure_of(state_of(failed=failed)).message == "the journal names no failure"


def polling(seq: int, iteration: int, **facts: Any) -> JournalRow:
    """The outcome of an iteration, after which another one follows."""
    return row(seq, "poll", item=item_of(iteration), detail=b"next 0 -", **facts)


def looping(*, undone: bool) -> RunState:
    """A fresh run of a step and a loop."""
    compensate = print if undone else None
    flow = durable("flow").step("first", print).loop("poll", print, max_iterations=9, compensate=compensate)
    return run_of(flow)


@pytest.mark.parametrize("undone", [False, True])
def test_a_journal_without_the_iterations_before_the_last_one_gives_the_same_state(*, undone: bool) -> None:
    rows = [row(1, "first"), *(polling(seq, seq - 1) for seq in range(2, 7))]
    whole, partial = looping(undone=undone), looping(undone=undone)
    replay(whole, rows)
    replay(partial, [rows[0], rows[-1]], ["poll"])
    assert (partial.seq, partial.last, partial.results) == (whole.seq, whole.last, whole.results)
    assert decide(partial, 99) == decide(whole, 99)
    assert (whole.is_partial, partial.is_partial) == (False, undone)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(1, "first"), polling(4, 5)], "row 2 is missing"),
        ([polling(6, 5)], "row 1 is missing"),
        ([row(1, "first"), polling(6, 5, n=1, status="retrying", value=None, error=BROKEN)], "row 2 is missing"),
        ([row(1, "first"), polling(6, 5), polling(9, 7)], "row 7 is missing"),
        ([row(1, "first"), polling(6, 5), polling(7, 7)], "row 7 cannot come there"),
        ([row(1, "first"), row(6, "poll", item="#5", detail=b"end")], "row 2 is missing"),
        ([row(2, "first"), polling(6, 5)], "row 1 is missing"),
    ],
    ids=["too few", "no step", "an attempt", "again too few", "not the next", "no iteration", "before the step"],
)
def test_a_gap_that_iterations_cannot_fill_is_named(rows: list[JournalRow], said: str) -> None:
    with pytest.raises(JournalError, match=said):
        replay(looping(undone=False), rows, ["poll"])


def test_a_gap_that_was_not_asked_for_is_named() -> None:
    with pytest.raises(JournalError, match="row 2 is missing"):
        replay(looping(undone=False), [row(1, "first"), polling(6, 5)])


def test_i5_a_run_of_which_the_failed_iteration_alone_was_read_still_has_the_others_to_undo() -> None:
    state = looping(undone=True)
    replay(state, [row(1, "first"), polling(7, 6, status="failed", value=None, error=BROKEN)], ["poll"])
    assert (state.undoable, decide(state, 99)) == ([], (Compensate(),))
