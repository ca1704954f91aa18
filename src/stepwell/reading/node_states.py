"""How far each node of a run has come, from its snapshot and its journal: pure, for whatever shows a run's progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from stepwell.core.journal import UNDOING
from stepwell.core.kinds import kind_of
from stepwell.core.kinds.kind import Done
from stepwell.core.statuses import ENDED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from stepwell.reading.records import Entry, RunSnapshot
    from stepwell.workflow.nodes import Node

State: TypeAlias = Literal["pending", "running", "waiting", "done", "skipped", "failed", "compensated", "canceled"]


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's state, how long it took or has taken so far, and what its kind has to say on how far it has come.

    `done` are its entries in the journal, `undone` those of its compensators.
    """

    name: str
    state: State
    took: timedelta | None
    words: str
    done: Sequence[Entry]
    undone: Sequence[Entry]


def node_states(nodes: Sequence[Node], run: RunSnapshot, entries: Sequence[Entry], at: datetime) -> list[NodeState]:
    """The state of each node of the workflow, as of `at`."""
    entries = [entry for entry in entries if entry.name is None]
    states = []
    for index, node in enumerate(nodes):
        names = kind_of(node).row_names(node)
        own = [entry for entry in entries if entry.node in names]
        done = [entry for entry in own if entry.kind != UNDOING]
        undone = [entry for entry in own if entry.kind == UNDOING]
        state = _state(index, run, done, undone)
        took = _took(state, run, entries, done, at)
        states.append(NodeState(node.name, state, took, _words(node, state, done), done, undone))
    return states


def _state(index: int, run: RunSnapshot, done: Sequence[Entry], undone: Sequence[Entry]) -> State:
    if any(entry.status == "failed" for entry in done):
        return "failed"
    if undone:
        return "compensated"
    if run.status == "completed" or index < run.current_step:
        return "skipped" if done and all(entry.status == "skipped" for entry in done) else "done"
    if index > run.current_step or run.status == "pending":
        return "pending"
    if run.status == "canceled":
        return "canceled"
    if run.status in ENDED:
        return "failed"
    return "waiting" if run.wake_at is not None or run.status == "suspended" else "running"


def _took(
    state: State, run: RunSnapshot, entries: Sequence[Entry], done: Sequence[Entry], at: datetime
) -> timedelta | None:
    if state in {"pending", "skipped", "canceled"}:
        return None
    if state in {"running", "waiting"}:
        others = [entry.finished_at for entry in entries if entry not in done]
        began = min([entry.started_at for entry in done] or [max(others, default=run.created_at)])
        return max(at - began, at - at)
    if not done:
        return None
    return max(entry.finished_at for entry in done) - min(entry.started_at for entry in done)


def _words(node: Node, state: State, entries: Sequence[Entry]) -> str:
    done = [Done(entry.node, entry.kind, entry.result) for entry in entries if entry.status == "completed"]
    if state == "done":
        return kind_of(node).done_words(node, done)
    return kind_of(node).progress_words(node, done) if state == "running" else ""
