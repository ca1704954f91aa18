"""Compensation: what completed is undone one at a time, newest first, once each; then the run has failed (I5).

The order is that of `seq`, never of clocks. A compensator that fails for good is journaled, and the others go on: work
that cannot be undone is no reason to leave the rest of it done.
"""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for, outcome, unless_waiting
from stepwell.core.decisions import Call, Decision, Done, Fail, Invoke, Record, Tools
from stepwell.core.journal import UNDOING, Work, name_of
from stepwell.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.core.journal import JournalRow, RowStatus
    from stepwell.core.state import RunState


def moves(state: RunState, now: int) -> tuple[Decision, ...]:
    """The call that undoes the newest work that is not undone yet; when there is none, the end of the run."""
    if not state.completed:
        return (Fail(failure_of(state)),)
    row, piece = _newest(state), work(state)
    waiting = unless_waiting(state, piece, now)
    if waiting is not None:
        return (waiting,)
    if state.crashes >= state.max_crashes:
        return (crashed(state, piece, now),)
    place = state.plan.indexes[row.node]
    node = state.plan.nodes[place]
    function = state.plan.kinds[place].compensator(node, state, row.item)
    left = ChainMap({piece.name: row.value or state.values.null}, *results_left(state))
    return (call_for(state, piece, _undo, node.policy, subject=function, results=left),)


def work(state: RunState) -> Work:
    """What is undone next: the newest work that is not undone yet."""
    row = _newest(state)
    return Work(row.node, row.item, "undo", UNDOING)


def _newest(state: RunState) -> JournalRow:
    return state.completed[-1]


def crashed(state: RunState, piece: Work, now: int) -> Record:
    """The work's failure for good, because as many workers died during it as the app allows."""
    message = f"{state.crashes} workers died during it, with nothing of the run journaled in between"
    return Record(outcome(state, piece, started_at=now, now=now, failure=("CrashLimit", message)))


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
    yield Invoke(call.subject, (tools.context(call),), handler=True)
    return Done(None)
