"""Compensation: what is to be undone is undone one at a time, newest first, once each; then the run has ended (I5).

To be undone is what completed, and where a node says `undo="attempted"` what may have happened: a failure for good of
work that was called. So before a run is undone, what may have been called and has no outcome gets one (`unfinished`).
The order is that of `seq`, never of clocks. A compensator that fails for good is journaled, and the others go on: work
that cannot be undone is no reason to leave the rest of it done.
"""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for, given_up, outcome, unless_waiting
from stepwell.core.decisions import Call, Cancel, Decision, Done, Fail, Invoke, Record, Tools
from stepwell.core.journal import UNDOING, Work, name_of
from stepwell.core.state import is_to_be_undone
from stepwell.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.core.journal import JournalRow, RowStatus
    from stepwell.core.state import RunState


def moves(state: RunState, now: int) -> tuple[Decision, ...]:
    """The call that undoes the newest work that is not undone yet; when there is none, the end of the run."""
    if not state.undoable:
        return (Cancel() if state.is_canceling else Fail(failure_of(state)),)
    row, piece = _newest(state), work(state)
    waiting = unless_waiting(state, piece, now)
    if waiting is not None:
        return (waiting,)
    if state.crashes >= state.max_crashes:
        return (crashed(state, piece, now),)
    place = state.plan.indexes[row.node]
    node, kind = state.plan.nodes[place], state.plan.kinds[place]
    undone: Any = kind.undone(node, state, row.item)
    keys = kind.undoes_keys(node, state, row)
    left = ChainMap({piece.name: row.value or state.values.null}, *results_left(state))
    call = call_for(state, piece, _undo, node.policy, subject=undone, results=left, undoes=keys)
    call.waits_for_late = undone.undo == "attempted"
    return (call,)


def unfinished(state: RunState, now: int) -> Record | None:
    """The outcome of the next piece of work that has none, may have been called, and is to be undone then."""
    if state.at_end:
        return None
    for piece in state.kind.open_work(state.node, state):
        if state.kind.evidence(state.node, state, piece) is not None:
            continue
        called = state.progress_of(piece).called or None
        row = outcome(state, piece, started_at=now, now=now, failure=_why_unfinished(state), attempt=called)
        if is_to_be_undone(state, row):
            return Record(row)
    return None


def _why_unfinished(state: RunState) -> tuple[str, str]:
    if state.is_canceling or state.failed is None:
        return "RunCanceled", "it may have happened when the run was canceled"
    return "Abandoned", f"it may have happened when {name_of(state.failed)} failed"


def work(state: RunState) -> Work:
    """What is undone next: the newest work that is not undone yet."""
    row = _newest(state)
    return Work(row.node, row.item, "undo", UNDOING)


def _newest(state: RunState) -> JournalRow:
    return state.undoable[-1]


def crashed(state: RunState, piece: Work, now: int) -> Record:
    """The work's failure for good, because as many workers died during it as the app allows."""
    message = f"{state.crashes} workers died during it, with nothing of the run journaled in between"
    return given_up(state, piece, now, "CrashLimit", message)


def failure_of(state: RunState) -> Failure:
    """Why the run fails: the first node or entry that failed for good."""
    error = None if state.failed is None else state.failed.error
    return error or Failure("", "Unknown", "the journal names no failure")


def names_undone(state: RunState, status: RowStatus) -> tuple[str, ...]:
    """The names of what was undone, in order, with that outcome of the compensator."""
    outcomes = (progress.outcome for progress in state.undoing.values())
    return tuple(name_of(row) for row in outcomes if row is not None and row.status == status)


def results_left(state: RunState) -> list[dict[str, bytes]]:
    """The results when the run failed, those of an unfinished parallel first; in layers, since a copy costs more."""
    return [state.results] if state.fan is None else [state.fan.results, state.results]


def _undo(call: Call, tools: Tools) -> Generator[Invoke, Any, Done]:
    yield Invoke(call.subject.compensate, (tools.context(call),), handler=True)
    return Done(None)
