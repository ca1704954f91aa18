"""Which row of a journal can follow where a run stands; whether the row is whole in itself is not asked here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stepwell.core.model import ASKED, item_of, iteration_of
from stepwell.core.nodes import face_of
from stepwell.core.work import Work, progress_of
from stepwell.workflow.nodes import Loop, Parallel, Route, Step

if TYPE_CHECKING:
    from stepwell.core.model import JournalRow, RunState

_ITERATION = re.compile(r"#[0-9]{9}")
_FOLLOWS_AN_ITERATION = re.compile(rb"end|next -?[0-9]{1,18} .+", re.DOTALL)


def lacks_iterations(state: RunState, row: JournalRow) -> bool:
    """Whether the rows between where the run stands and this outcome of an iteration can be those before it.

    None of them is there, and at least one is missing for each; of the first one, its failed attempts.
    """
    node = state.node if not state.at_end else None
    if not isinstance(node, Loop) or row.n or row.phase != "do" or _ITERATION.fullmatch(row.item) is None:
        return False
    expected, there = face_of(node).work(node, state).item, iteration_of(row.item) or 0
    return expected == item_of(1) and 1 <= there <= row.seq - state.seq


def misfit_of(state: RunState, row: JournalRow, *, is_after_gap: bool = False) -> str | None:
    """Why the row cannot be the next one of this run, or at least come after a gap, or None."""
    if row.phase == "undo":
        return None if _undoes_the_newest(state, row) else f"row {row.seq} undoes {row.node!a} out of order"
    if state.at_end or state.node.name != row.node:
        return f"row {row.seq} is of node {row.node!a}, which is not where the run is"
    return (
        None
        if _continues_the_node(state, row, is_after_gap=is_after_gap)
        else f"row {row.seq} cannot come there in node {row.node!a}"
    )


def _undoes_the_newest(state: RunState, row: JournalRow) -> bool:
    if state.failed is None or not state.completed:
        return False
    newest = state.completed[-1]
    progress = progress_of(state, Work(row.node, row.item, "undo"))
    return (newest.node, newest.item) == (row.node, row.item) and row.n in {0, progress.n + 1}


def _continues_the_node(state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
    if row.phase == "read":
        return True
    node = state.node
    piece = Work(row.node, row.item, row.phase)
    if isinstance(node, Parallel) and row.item in node.entries:
        fits = row.phase == "do"
    elif isinstance(node, (Parallel, Loop)) and not row.item:
        fits = row.status == "skipped" or row.detail == ASKED
    elif isinstance(node, Parallel):
        fits = False
    else:
        expected = face_of(node).work(node, state)
        fits = is_after_gap or (row.item, row.phase) == (expected.item, expected.phase)
    progress = progress_of(state, piece)
    return fits and progress.outcome is None and row.n in {0, progress.n + 1} and _means_something(state, row)


def _means_something(state: RunState, row: JournalRow) -> bool:
    """Whether its detail, which tells what follows it, can be understood."""
    node = state.node
    if row.status == "suspended":
        return isinstance(node, Step)
    if row.status != "completed":
        return True
    if isinstance(node, Loop):
        return row.detail is not None and _FOLLOWS_AN_ITERATION.fullmatch(row.detail) is not None
    if isinstance(node, Route) and row.phase == "choose":
        return (row.detail or b"").decode(errors="replace") in node.branches
    return True
