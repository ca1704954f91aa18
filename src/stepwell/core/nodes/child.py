"""The child workflow: a run of its own, spawned once, whose end comes back as mail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.decisions import Call, Decision, Ending, Invoke, Park, Record, Spawn, SpawnWith, Tools
from stepwell.core.model import JournalRow, MessageName, RunState, Spawned
from stepwell.core.work import Work, call_for, first_message, outcome, unless_waiting

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.workflow.nodes import ChildWorkflow, Function


def work(node: ChildWorkflow, state: RunState) -> Work:
    """What is next at this node."""
    return Work(node.name, kind="child")


def moves(node: ChildWorkflow, state: RunState, now: int) -> tuple[Decision, ...]:
    """Maps the input, spawns the child, waits, and takes its results or its failure."""
    piece = work(node, state)
    since = state.parked.at if state.parked else now
    message = first_message(state, wanted(node))
    if message is not None:
        failure = None if message.error is None else (message.error.type, message.error.message)
        value = None if failure else message.value
        row = outcome(state, piece, started_at=since, now=now, value=value, failure=failure)
        return (Record(row, consumed=(message.n,)),)
    if state.parked is not None:
        return (Park(since, wake_at=None, absent=wanted(node)),)
    mapper = node.map_input
    if mapper is None:
        return (Spawn(Spawned(node.workflow, state.input, node.name), now),)
    waiting = unless_waiting(state, piece, now)
    return (waiting or call_for(state, piece, _map_input, node.policy, subject=(node, mapper)),)


def results(node: ChildWorkflow, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
    """The child's results, under the node's name."""
    return {node.name: row.value or b"null"}


def wanted(node: ChildWorkflow) -> MessageName:
    """The end of its child."""
    return MessageName("child", node.name)


def compensator(node: ChildWorkflow, state: RunState, item: str) -> Function | None:
    """What undoes the completed child."""
    return node.compensate


def _map_input(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: ChildWorkflow
    node, mapper = call.subject
    mapped = yield Invoke(mapper, (tools.context(call),))
    return SpawnWith(node.workflow, tools.encode(mapped, f"input.{node.name}"))
