"""The parallel: a call for each entry, at the same time; it ends when all entries have completed.

Each entry has rows, attempts and a result of its own, and one may be suspended while the others go on. After an entry
has failed for good no other one is begun; those in flight end first, and then what completed is undone.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for
from stepwell.core.decisions import Call, Decision, Park, Record, Wait
from stepwell.core.fan import Fan
from stepwell.core.journal import Work, is_of_condition
from stepwell.core.kinds.functions import FunctionName, changed_branches
from stepwell.core.kinds.kind import Done as DoneRow
from stepwell.core.kinds.kind import Kind, absent, other_names, texts_in
from stepwell.core.mailbox import MessageName
from stepwell.core.refusals import refusal
from stepwell.core.suspension import answer_to, handler_call, left_by
from stepwell.core.types import Declares
from stepwell.workflow.nodes import Branch, Parallel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepwell.core.journal import JournalRow
    from stepwell.core.kinds.functions import Change
    from stepwell.core.kinds.kind import Undone
    from stepwell.core.state import RunState
    from stepwell.workflow.annotations import Declaration


class ParallelKind(Kind[Parallel]):
    """Answers for parallels."""

    def outline(self, node: Parallel) -> dict[str, Any]:
        """The entries, in their order: that of the results."""
        return {"entries": list(node.entries)}

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> Parallel:
        """A parallel of these entries."""
        return Parallel(name, dict.fromkeys(texts_in(outline, "entries"), Branch(absent, absent, undo="attempted")))

    def difference(self, was: Parallel, now: Parallel) -> str:
        """Other entries."""
        return other_names("entries", was.names, now.names)

    def next_work(self, node: Parallel, state: RunState) -> Work:
        """Its first entry without an outcome, one that is not suspended before those that are."""
        entries = [Work(node.name, name) for name in node.entries]
        left = [entry for entry in entries if state.progress_of(entry).outcome is None]
        waiting = self._fan(node, state).waiting
        return next((entry for entry in left if entry.item not in waiting), left[0])

    def condition(self, node: Parallel, state: RunState) -> Work:
        """The node itself, since its condition is asked once for all entries."""
        return Work(node.name)

    def decide(self, node: Parallel, state: RunState, now: int) -> tuple[Decision, ...]:
        """Calls every entry that is neither done, in flight, suspended, nor waiting for its next attempt."""
        fan = self._fan(node, state)
        due = takewhile(lambda retry: retry[0] <= now, fan.retries)
        names = [*fan.ready, *(name for _, name in due)]
        if names:
            moves = tuple(self._begin(node, state, name, now) for name in names)
            refused = next((move for move in moves if isinstance(move, Record)), None)
            return moves if refused is None else (refused,)
        until = fan.retries[0][0] if fan.retries else None
        unanswered = self.awaited(node, state)
        if state.in_flight:
            return (Wait(until, unanswered),)
        since = None
        if until is None:
            since = state.parked.at if state.parked else now
        return (Park(since, until, unanswered),)

    def has_sub_steps(self, node: Parallel, state: RunState, row: JournalRow) -> bool:
        """Of an entry."""
        return row.item in node.entries and row.phase == "do"

    def accepts(self, node: Parallel, state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
        """A row of an entry, or of the condition."""
        if row.item:
            return row.item in node.entries and row.phase == "do"
        return asks_alone(row)

    def results(self, node: Parallel, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
        """The entries' results, once all have completed."""
        found = self._fan(node, state).results
        return {name: found[name] for name in node.entries} if len(found) == len(node.entries) else None

    def partial_results(self, node: Parallel, state: RunState) -> Mapping[str, bytes]:
        """Those of the entries that have completed, and what suspended ones left for themselves."""
        if state.fan is None:
            return {}
        found = dict(state.fan.results)
        for item, phase in state.progress:
            if item and phase == "do":
                found |= left_by(state, Work(node.name, item))
        return found

    def entries(self, node: Parallel) -> tuple[str, ...]:
        """All of them."""
        return node.names

    def awaited(self, node: Parallel, state: RunState) -> tuple[MessageName, ...]:
        """The answers to the suspended entries."""
        return tuple([MessageName("signal", name) for name in self._fan(node, state).waiting])

    def takes(self, node: Parallel) -> Sequence[tuple[str, Declaration]]:
        """What answers each entry."""
        return [(name, branch.types.resume) for name, branch in node.entries.items()]

    def suspends_as(self, node: Parallel) -> tuple[str, ...]:
        """Each entry."""
        return node.names

    def undone(self, node: Parallel, state: RunState, item: str) -> Undone | None:
        """The entry."""
        return node.entries.get(item)

    def open_work(self, node: Parallel, state: RunState) -> Iterable[Work]:
        """Every entry without an outcome."""
        fan = self._fan(node, state)
        return (Work(node.name, entry) for entry in (*fan.ready, *(name for _, name in fan.retries), *fan.waiting))

    def with_functions(self, node: Parallel, change: Change) -> Parallel:
        """Those of the entries, which go by their own names, since their results do."""
        entries = changed_branches(node.entries, change, lambda entry: FunctionName(entry, (f"{node.name}/{entry}",)))
        return replace(node, entries=entries)

    def declares(self, node: Parallel) -> Declares:
        """The results of the entries, and what those that suspend themselves leave and are answered."""
        return declared_by_branches({name: (name, branch) for name, branch in node.entries.items()})

    def done_words(self, node: Parallel, done: Sequence[DoneRow]) -> str:
        """Which entries completed, in that order."""
        return ", ".join(one.name for one in done)

    def progress_words(self, node: Parallel, done: Sequence[DoneRow]) -> str:
        """How many entries have completed."""
        return f"{len(done)} of {len(node.entries)}"

    def _begin(self, node: Parallel, state: RunState, name: str, now: int) -> Call | Record:
        """The next attempt at an entry, which is not suspended, or whose answer is here: it fits, or is refused."""
        work, branch = Work(node.name, name), node.entries[name]
        answer = None if state.progress_of(work).snapshot is None else state.first_message(answer_to(work))
        if answer is None:
            return call_for(state, work, handler_call, node.policy, subject=branch)
        refused = refusal(state, work, branch.types.resume, answer, now)
        resume = (answer.n, answer.value or state.values.null)
        return refused or call_for(state, work, handler_call, node.policy, subject=branch, resume=resume)

    def _fan(self, node: Parallel, state: RunState) -> Fan:
        """How far the entries have come; before the first row all of them may begin."""
        return Fan(dict.fromkeys(node.entries)) if state.fan is None else state.fan


def declared_by_branches(branches: Mapping[str, tuple[str, Branch]]) -> Declares:
    """What is declared of branches, each with the name under which its result is found."""
    handlers: dict[str, tuple[object, ...]] = {}
    for name, branch in branches.values():
        if branch.types.result.handler is not None:
            handlers[name] = (*handlers.get(name, ()), branch.types.result.handler)
    return Declares(
        {name: branch.types.result for name, branch in branches.values()},
        handlers,
        {name: branch.types.snapshot for name, branch in branches.values()},
        {name: branch.types.resume for name, branch in branches.values()},
    )


def asks_alone(row: JournalRow) -> bool:
    """Whether this row of the node itself, not of an entry or iteration, is of its condition: no other is written."""
    return row.phase == "do" and (row.status in {"skipped", "failed"} or is_of_condition(row))
