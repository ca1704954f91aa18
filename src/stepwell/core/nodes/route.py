"""The route: a resolver chooses a branch, the choice is journaled, and only then the branch is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Refused, Tools
from stepwell.core.nodes.parallel import entry_call
from stepwell.core.work import Work, call_for, unless_waiting

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.core.model import JournalRow, RunState
    from stepwell.workflow.nodes import Function, Route


def work(node: Route, state: RunState) -> Work:
    """What is next at this node: the choice, then the branch."""
    return Work(node.name) if node.name in state.choices else Work(node.name, "", "choose", "route")


def moves(node: Route, state: RunState, now: int) -> tuple[Decision, ...]:
    """Asks the resolver, then calls the branch it chose."""
    piece = work(node, state)
    waiting = unless_waiting(state, piece, now)
    if waiting is not None:
        return (waiting,)
    if piece.phase == "choose":
        return (call_for(state, piece, _choose, node.policy, subject=node),)
    handler = node.branches[state.choices[node.name]].handler
    return (call_for(state, piece, entry_call, node.policy, subject=handler),)


def results(node: Route, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
    """The branch's result, once it has one."""
    return {node.name: row.value or b"null"} if row.phase == "do" else None


def wanted(node: Route) -> None:
    """No message."""


def compensator(node: Route, state: RunState, item: str) -> Function | None:
    """What undoes the chosen branch."""
    return node.branches[state.choices[node.name]].compensate


def _choose(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: Route = call.subject
    branch = yield Invoke(node.resolver, (tools.context(call),))
    if not isinstance(branch, str) or branch not in node.branches:
        return Refused("UnknownBranch", f"no branch {branch!r:.200}. Known: {', '.join(node.branches)}.")
    return Done(tools.encode(str(branch), "branch"), detail=str(branch).encode())
