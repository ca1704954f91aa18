"""The parallel: a call for each entry, at once; it ends when all entries have completed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Park, Refused, Tools, Wait
from stepwell.core.work import Work, call_for, progress_of
from stepwell.workflow.policy import Suspended

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.core.model import JournalRow, RunState
    from stepwell.workflow.nodes import Function, Parallel

NOT_HERE = "only a .step handler can suspend its run"


def work(node: Parallel, state: RunState) -> Work:
    """What is next at this node: its first entry without an outcome."""
    return next(entry for entry in _entries(node) if progress_of(state, entry).outcome is None)


def moves(node: Parallel, state: RunState, now: int) -> tuple[Decision, ...]:
    """Calls every entry that is neither done, in flight, nor waiting for its next attempt."""
    calls: list[Decision] = []
    until: int | None = None
    for entry in _entries(node):
        progress = progress_of(state, entry)
        if progress.outcome is not None or (node.name, entry.item, "do") in state.in_flight:
            continue
        if progress.retry_at is not None and progress.retry_at > now:
            until = progress.retry_at if until is None else min(until, progress.retry_at)
        else:
            calls.append(call_for(state, entry, entry_call, node.policy, subject=node.entries[entry.item].handler))
    if calls:
        return tuple(calls)
    return (Wait(until) if state.in_flight else Park(since=None, wake_at=until),)


def results(node: Parallel, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
    """The entries' results, once all have completed."""
    found = completed(node, state)
    return found if len(found) == len(node.entries) else None


def completed(node: Parallel, state: RunState) -> dict[str, bytes]:
    """The results of the entries that have completed so far."""
    found = {}
    for name in node.entries:
        progress = state.progress.get((name, "do"))
        if progress is not None and progress.outcome is not None and progress.outcome.status == "completed":
            found[name] = progress.outcome.value or b"null"
    return found


def compensator(node: Parallel, state: RunState, item: str) -> Function | None:
    """What undoes this entry's completed work."""
    return node.entries[item].compensate


def entry_call(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    """Calls one handler of the context that cannot suspend the run: an entry's, or a branch's."""
    result = yield Invoke(call.subject, (tools.context(call),), handler=True)
    if isinstance(result, Suspended):
        return Refused("Suspended", NOT_HERE)
    return Done(tools.encode(result, f"results.{call.step}"))


def _entries(node: Parallel) -> list[Work]:
    return [Work(node.name, name) for name in node.entries]
