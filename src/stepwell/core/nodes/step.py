"""The step: one call of a handler, which may suspend itself and is then entered again by a signal of its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Park, Snapshot, Tools
from stepwell.core.model import MessageName
from stepwell.core.work import Work, call_for, first_message, progress_of, unless_waiting
from stepwell.workflow.policy import Suspended

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.core.model import JournalRow, RunState
    from stepwell.workflow.nodes import Function, Step


def work(node: Step, state: RunState) -> Work:
    """What is next at this node."""
    return Work(node.name)


def moves(node: Step, state: RunState, now: int) -> tuple[Decision, ...]:
    """Calls the handler; a suspended one only once its signal is here."""
    piece = Work(node.name)
    if not state.progress and not state.in_flight:
        return (call_for(state, piece, _call, node.policy, subject=node.handler),)
    if progress_of(state, piece).snapshot is None:
        waiting = unless_waiting(state, piece, now)
        return (waiting or call_for(state, piece, _call, node.policy, subject=node.handler),)
    message = first_message(state, wanted(node))
    if message is None:
        since = state.parked.at if state.parked else now
        return (Park(since, wake_at=None, absent=wanted(node)),)
    resume = (message.n, message.value or b"null")
    waiting = unless_waiting(state, piece, now)
    return (waiting or call_for(state, piece, _call, node.policy, subject=node.handler, resume=resume),)


def results(node: Step, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
    """The node's results, once this row ends it."""
    return {node.name: row.value or b"null"}


def wanted(node: Step) -> MessageName:
    """The signal that enters it again, once it has suspended itself."""
    return MessageName("signal", node.name)


def compensator(node: Step, state: RunState, item: str) -> Function | None:
    """What undoes this node's completed work."""
    return node.compensate


def _call(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    result = yield Invoke(call.subject, (tools.context(call),), handler=True)
    if isinstance(result, Suspended):
        return Snapshot(tools.encode(result.snapshot, f"results.{call.step}"))
    encoded = tools.encode(result, f"results.{call.step}")
    if isinstance(result, dict) and result.get("status") == "suspended" and "state" in result:
        return Snapshot(encoded)
    return Done(encoded)
