"""The loop: one call an iteration; its row holds the verdict on what follows, so nothing is asked twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Park, Refused, Tools
from stepwell.core.model import JournalRow, RunState, item_of, iteration_of
from stepwell.core.nodes.parallel import NOT_HERE
from stepwell.core.work import Work, call_for, unless_waiting
from stepwell.workflow.durations import wake_at
from stepwell.workflow.policy import Suspended

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.workflow.nodes import Function, Loop

_END = b"end"


class _Next(NamedTuple):
    """What an iteration begins with: its input, which the first one may map, and when."""

    iteration: int
    value: bytes
    at: int


def work(node: Loop, state: RunState) -> Work:
    """What is next at this node: the iteration after the last one journaled."""
    return Work(node.name, item_of(_next(node, state).iteration))


def moves(node: Loop, state: RunState, now: int) -> tuple[Decision, ...]:
    """Calls the next iteration, after the pause that the last one asked for."""
    follows = _next(node, state)
    if follows.at > now:
        return (Park(since=None, wake_at=follows.at),)
    piece = Work(node.name, item_of(follows.iteration))
    waiting = unless_waiting(state, piece, now)
    return (waiting or call_for(state, piece, _iterate, node.policy, subject=(node, follows.value)),)


def results(node: Loop, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
    """The last iteration's result, once the loop has ended."""
    return {node.name: row.value or b"null"} if row.detail == _END else None


def wanted(node: Loop) -> None:
    """No message."""


def compensator(node: Loop, state: RunState, item: str) -> Function | None:
    """What undoes an iteration."""
    return node.compensate


def _next(node: Loop, state: RunState) -> _Next:
    last = state.last
    if last is None or last.item == "" or last.detail is None:
        return _Next(1, state.input, 0)
    _, at, value = last.detail.split(b" ", 2)
    return _Next((iteration_of(last.item) or 0) + 1, state.input if value == b"-" else value, int(at))


def _iterate(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: Loop
    value: bytes
    node, value = call.subject
    iteration = call.iteration or 1
    if iteration == 1 and node.map_input is not None:
        mapped = yield Invoke(node.map_input, (tools.context(call),))
        value = tools.encode(mapped, f"input.{node.name}")
    result = yield Invoke(node.handler, (tools.decode(value), tools.context(call)), handler=True)
    if isinstance(result, Suspended):
        return Refused("Suspended", NOT_HERE)
    encoded = tools.encode(result, f"results.{node.name}")
    ended = iteration >= node.max_iterations
    if not ended and node.until is not None:
        ended = bool((yield Invoke(node.until, (tools.decode(encoded), iteration))))
    if ended:
        return Done(encoded, _END)
    if node.feedback is not None:
        fed = yield Invoke(node.feedback, (tools.decode(encoded),))
        value = tools.encode(fed, f"input.{node.name}")
    at = 0
    if node.pause is not None:
        pause = node.pause
        if callable(pause):
            pause = yield Invoke(pause, (tools.decode(encoded), iteration))
        at = wake_at(pause, tools.latest() if pause else tools.now(), f"the pause of {node.name}")
    unchanged = node.map_input is None and node.feedback is None
    return Done(encoded, b"next %d %b" % (at, b"-" if unchanged else value))
