"""The parallel: a call for each entry, at once; it ends when all entries have completed."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Park, Refused, Tools, Wait
from stepwell.core.model import Fan
from stepwell.core.work import Work, call_for, progress_of
from stepwell.workflow.policy import Suspended

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.core.model import JournalRow, RunState
    from stepwell.workflow.nodes import Function, Parallel

NOT_HERE = "only a .step handler can suspend its run"


def work(node: Parallel, state: RunState) -> Work:
    """What is next at this node: its first entry without an outcome."""
    entries = (Work(node.name, name) for name in node.entries)
    return next(entry for entry in entries if progress_of(state, entry).outcome is None)


def fan_of(node: Parallel, state: RunState) -> Fan:
    """How far the entries have come; at first all of them may begin."""
    return Fan(dict.fromkeys(node.entries)) if state.fan is None else state.fan


def moves(node: Parallel, state: RunState, now: int) -> tuple[Decision, ...]:
    """Calls every entry that is neither done, in flight, nor waiting for its next attempt."""
    fan = fan_of(node, state)
    due = takewhile(lambda retry: retry[0] <= now, fan.retries)
    names = [*fan.ready, *(name for _, name in due)]
    if names:
        return tuple(
            call_for(state, Work(node.name, name), entry_call, node.policy, subject=node.entries[name].handler)
            for name in names
        )
    until = fan.retries[0][0] if fan.retries else None
    return (Wait(until) if state.in_flight else Park(since=None, wake_at=until),)


def results(node: Parallel, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
    """The entries' results, once all have completed."""
    found = fan_of(node, state).results
    return {name: found[name] for name in node.entries} if len(found) == len(node.entries) else None


def wanted(node: Parallel) -> None:
    """No message."""


def compensator(node: Parallel, state: RunState, item: str) -> Function | None:
    """What undoes this entry's completed work."""
    return node.entries[item].compensate


def entry_call(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    """Calls one handler of the context that cannot suspend the run: an entry's, or a branch's."""
    result = yield Invoke(call.subject, (tools.context(call),), handler=True)
    if isinstance(result, Suspended):
        return Refused("Suspended", NOT_HERE)
    return Done(tools.encode(result, f"results.{call.step}"))
