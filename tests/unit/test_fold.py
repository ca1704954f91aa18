"""Journals that nobody wrote, folded: which row cannot come there is told; a status only changes by the table."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import JournalError, durable
from stepwell.core.compensate import failure_of
from stepwell.core.fold import replay, turn
from stepwell.core.model import JournalRow, RunState
from stepwell.errors import Failure

BROKEN = Failure("last", "ValueError", "no")


def state_of(**facts: object) -> RunState:
    """A fresh run of two steps that can be undone, and a third one."""
    flow = (
        durable("flow")
        .step("first", print, compensate=print)
        .step("second", print, compensate=print)
        .step("last", print)
    )
    state = RunState("run-7", 1, flow.close(), "ann", b"{}")
    for name, value in facts.items():
        setattr(state, name, value)
    return state


def row(seq: int, node: str, **facts: Any) -> JournalRow:
    """A completed step's row, but for these facts."""
    plain = JournalRow(1, seq, node, "", "do", 0, "step", 1, "completed", b"1", None, None, None, 10, 20, "ann")
    return plain._replace(**facts)


def undone(seq: int, node: str) -> JournalRow:
    return row(seq, node, phase="undo", kind="compensate", value=None)


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
    ],
    ids=["before a failure", "what never completed", "not the newest", "ahead", "after the end"],
)
def test_i5_a_row_that_cannot_come_there_is_named(rows: list[JournalRow], said: str) -> None:
    with pytest.raises(JournalError, match=said):
        replay(state_of(), rows)


def test_i5_what_is_undone_newest_first_is_no_damage() -> None:
    state = state_of(status="compensating")
    replay(state, [*FORWARD, FAILED, undone(4, "second"), undone(5, "first")])
    assert (state.completed, state.failed) == ([], FAILED)


def test_a_run_that_was_damaged_once_is_still_read() -> None:
    state = state_of(status="failed")
    replay(state, [row(1, "first"), row(2, "second", phase="read", status="failed", value=None, error=BROKEN)])
    assert state.seq == 2


def test_an_outcome_of_an_entry_that_a_parallel_does_not_have_is_named() -> None:
    flow = durable("flow").parallel("both", {"air": print, "sea": print})
    state = RunState("run-7", 1, flow.close(), "ann", b"{}")
    with pytest.raises(JournalError, match="row 1 cannot come there in node 'both'"):
        replay(state, [row(1, "both", item="rail")])


def test_a_status_that_cannot_follow_is_refused() -> None:
    with pytest.raises(JournalError, match="it is completed and cannot become running"):
        turn(state_of(status="completed"), "running")


@pytest.mark.parametrize("failed", [None, FAILED._replace(error=None)])
def test_a_failure_that_the_journal_does_not_name_is_told_as_that(failed: JournalRow | None) -> None:
    assert failure_of(state_of(failed=failed)).message == "the journal names no failure"
