"""The parallel: a call for each entry, at once; it ends when all entries have completed."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for
from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Park, Refused, Tools, Wait
from stepwell.core.journal import ASKED, Work
from stepwell.core.kinds.kind import Kind
from stepwell.core.state import Fan
from stepwell.workflow.nodes import Parallel
from stepwell.workflow.policy import Suspended

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState
    from stepwell.workflow.nodes import Function

NOT_HERE = "only a .step handler can suspend its run"


class ParallelKind(Kind[Parallel]):
    """Answers for parallels."""

    def outline(self, node: Parallel) -> dict[str, Any]:
        """The entries, in their order: that of the results."""
        return {"entries": list(node.entries)}

    def next_work(self, node: Parallel, state: RunState) -> Work:
        """Its first entry without an outcome."""
        entries = (Work(node.name, name) for name in node.entries)
        return next(entry for entry in entries if state.progress_of(entry).outcome is None)

    def condition(self, node: Parallel, state: RunState) -> Work:
        """The node itself, since its condition is asked once for all entries."""
        return Work(node.name)

    def decide(self, node: Parallel, state: RunState, now: int) -> tuple[Decision, ...]:
        """Calls every entry that is neither done, in flight, nor waiting for its next attempt."""
        fan = self._fan(node, state)
        due = takewhile(lambda retry: retry[0] <= now, fan.retries)
        names = [*fan.ready, *(name for _, name in due)]
        if names:
            return tuple(
                call_for(state, Work(node.name, name), entry_call, node.policy, subject=node.entries[name].handler)
                for name in names
            )
        until = fan.retries[0][0] if fan.retries else None
        return (Wait(until) if state.in_flight else Park(since=None, wake_at=until),)

    def accepts(self, node: Parallel, state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
        """A row of an entry, or of the condition."""
        if row.item:
            return row.item in node.entries and row.phase == "do" and row.status != "suspended"
        return asks_alone(row)

    def results(self, node: Parallel, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
        """The entries' results, once all have completed."""
        found = self._fan(node, state).results
        return {name: found[name] for name in node.entries} if len(found) == len(node.entries) else None

    def entries(self, node: Parallel) -> tuple[str, ...]:
        """All of them."""
        return node.names

    def compensator(self, node: Parallel, state: RunState, item: str) -> Function | None:
        """What undoes this entry."""
        return node.entries[item].compensate

    def _fan(self, node: Parallel, state: RunState) -> Fan:
        """How far the entries have come; at first all of them may begin."""
        return Fan(dict.fromkeys(node.entries)) if state.fan is None else state.fan


def asks_alone(row: JournalRow) -> bool:
    """Whether this row of the node itself, not of an entry or iteration, is of its condition: no other is written."""
    return row.phase == "do" and (row.status in {"skipped", "failed"} or (row.n > 0 and row.detail == ASKED))


def entry_call(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    """Calls one handler of the context that cannot suspend the run: an entry's, or a branch's."""
    result = yield Invoke(call.subject, (tools.context(call),), handler=True)
    if isinstance(result, Suspended):
        return Refused("Suspended", NOT_HERE)
    return Done(tools.encode(result, f"results.{call.step}"))
