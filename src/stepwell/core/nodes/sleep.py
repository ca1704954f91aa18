"""The sleep: a wait until an instant that is fixed once, when the node begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.decisions import Call, Decision, Ending, Invoke, Park, Record, Tools, WaitUntil
from stepwell.core.model import NULL, JournalRow, RunState
from stepwell.core.work import Work, call_for, outcome, unless_waiting
from stepwell.workflow.durations import wake_at

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.workflow.nodes import Function, Sleep


def work(node: Sleep, state: RunState) -> Work:
    """What is next at this node."""
    return Work(node.name, kind="sleep")


def moves(node: Sleep, state: RunState, now: int) -> tuple[Decision, ...]:
    """Fixes the instant, waits for it, and then completes."""
    piece = work(node, state)
    if state.parked is not None:
        return (until(state, piece, state.parked.at, state.parked.wake_at or 0, now),)
    if callable(node.duration):
        waiting = unless_waiting(state, piece, now)
        return (waiting or call_for(state, piece, _ask_instant, node.policy, subject=node),)
    begins = now + state.lag if node.duration else now
    return (until(state, piece, begins, wake_at(node.duration, begins, node.name), now),)


def until(state: RunState, piece: Work, since: int, at: int, now: int) -> Park | Record:
    """Waits on, or completes when the instant has come."""
    if at > now:
        return Park(since, at)
    return Record(outcome(state, piece, started_at=since, now=now, value=NULL))


def results(node: Sleep, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
    """None, under the node's name."""
    return {node.name: NULL}


def wanted(node: Sleep) -> None:
    """No message."""


def compensator(node: Sleep, state: RunState, item: str) -> Function | None:
    """Nothing: a sleep cannot be undone."""
    return None


def _ask_instant(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: Sleep = call.subject
    pause = yield Invoke(node.duration, (tools.context(call),))
    return WaitUntil(wake_at(pause, tools.latest() if pause else tools.now(), f"the duration of {node.name}"))
