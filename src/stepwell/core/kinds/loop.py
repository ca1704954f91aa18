"""The loop: one call an iteration, whose row records what follows.

`until`, `feedback` and `pause` belong to the attempt at an iteration. What they returned is stored in the row of the
iteration, with the result: after a crash none of them is called again, and the next iteration begins from that row
alone. So the rows before it are not needed to go on (`stepwell.core.needed`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Park, Snapshot, Tools
from stepwell.core.journal import Work, item_of, iteration_of
from stepwell.core.kinds.functions import FunctionName, changed_undo
from stepwell.core.kinds.kind import Done as DoneRow
from stepwell.core.kinds.kind import Kind, absent
from stepwell.core.kinds.parallel import asks_alone
from stepwell.core.kinds.step import declared_by
from stepwell.core.suspension import answer_to, ending_with, left_by, next_attempt, unanswered
from stepwell.workflow.durations import wake_at
from stepwell.workflow.nodes import Loop

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from stepwell.core.journal import JournalRow
    from stepwell.core.kinds.functions import Change
    from stepwell.core.kinds.kind import Undone
    from stepwell.core.mailbox import MessageName
    from stepwell.core.state import RunState
    from stepwell.core.types import Declares
    from stepwell.workflow.annotations import Declaration

_END = b"end"
_ITERATION = re.compile(r"#[0-9]{9}")
_FOLLOWS_AN_ITERATION = re.compile(rb"end|next -?[0-9]{1,18} .+", re.DOTALL)


class _Next(NamedTuple):
    """What an iteration begins with: its number, its input, and the instant at which it may begin."""

    iteration: int
    value: bytes
    at: int


class LoopKind(Kind[Loop]):
    """Answers for loops."""

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> Loop:
        """A loop of that name."""
        return Loop(name, absent, 1, compensate=absent, undo="attempted")

    def next_work(self, node: Loop, state: RunState) -> Work:
        """The iteration after the last one journaled."""
        return Work(node.name, item_of(_next(state).iteration))

    def condition(self, node: Loop, state: RunState) -> Work:
        """The node itself: its condition is asked once, before the first iteration."""
        return Work(node.name)

    def decide(self, node: Loop, state: RunState, now: int) -> tuple[Decision, ...]:
        """Calls the next iteration, after the pause that the last one asked for."""
        follows = _next(state)
        if follows.at > now:
            return (Park(since=None, wake_at=follows.at),)
        work = Work(node.name, item_of(follows.iteration))
        return (next_attempt(state, work, _iterate, node.policy, now, types=node.types, subject=(node, follows.value)),)

    def has_sub_steps(self, node: Loop, state: RunState, row: JournalRow) -> bool:
        """Of the work that is next."""
        return (row.item, row.phase) == self.next_work(node, state)[1:3]

    def accepts(self, node: Loop, state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
        """The next iteration, or after a gap a later one, whose detail can be read; or the condition's row."""
        if not row.item:
            return asks_alone(row)
        if row.status == "completed" and _FOLLOWS_AN_ITERATION.fullmatch(row.detail or b"") is None:
            return False
        return is_after_gap or super().accepts(node, state, row, is_after_gap=is_after_gap)

    def results(self, node: Loop, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
        """The last iteration's result, once the loop has ended."""
        return {node.name: row.value or state.values.null} if row.detail == _END else None

    def partial_results(self, node: Loop, state: RunState) -> Mapping[str, bytes]:
        """What a suspended iteration left for itself."""
        return left_by(state, self.next_work(node, state))

    def awaits(self, node: Loop) -> MessageName:
        """The signal that enters the iteration again, once it has suspended itself."""
        return answer_to(Work(node.name))

    def awaited(self, node: Loop, state: RunState) -> tuple[MessageName, ...]:
        """That signal, while the iteration is suspended."""
        return unanswered(state, self.next_work(node, state))

    def takes(self, node: Loop) -> Sequence[tuple[str, Declaration]]:
        """What answers an iteration."""
        return ((node.name, node.types.resume),)

    def suspends_as(self, node: Loop) -> tuple[str, ...]:
        """The handler."""
        return (node.name,)

    def undone(self, node: Loop, state: RunState, item: str) -> Undone | None:
        """An iteration."""
        return node if item else None

    def open_work(self, node: Loop, state: RunState) -> Iterable[Work]:
        """The iteration that comes next, unless the one before it failed."""
        last = state.last
        return () if last is not None and last.item and last.status == "failed" else (self.next_work(node, state),)

    def with_functions(self, node: Loop, change: Change) -> Loop:
        """The handler and the compensator."""
        name = FunctionName(node.name)
        return replace(node, handler=change(name, node.handler), compensate=changed_undo(node.compensate, name, change))

    def declares(self, node: Loop) -> Declares:
        """The last result, and what a suspended iteration leaves and is answered."""
        return declared_by(node.name, node.types)

    def done_words(self, node: Loop, done: Sequence[DoneRow]) -> str:
        """How many iterations it took."""
        return f"{len(done)} iteration{'s' if len(done) != 1 else ''}"

    def progress_words(self, node: Loop, done: Sequence[DoneRow]) -> str:
        """Which iteration is under way."""
        return f"iteration {len(done) + 1}"

    def needs_only_last(self, node: Loop, *, compensating: bool) -> bool:
        """An iteration begins from the row of the one before it; those further back are needed to undo them."""
        return not (compensating and node.compensate is not None)

    def may_leave_out(self, node: Loop, state: RunState, row: JournalRow) -> bool:
        """Whether none of the iterations is there, and at least one row is missing for each of those before this one.

        Of the first one, its failed attempts may be missing, too.
        """
        if row.n or row.phase != "do" or _ITERATION.fullmatch(row.item) is None:
            return False
        expected, there = self.next_work(node, state).item, iteration_of(row.item) or 0
        return expected == item_of(1) and 1 <= there <= row.seq - state.seq


def _next(state: RunState) -> _Next:
    last = state.last
    if last is None or last.item == "" or last.detail is None or last.status == "failed":
        return _Next(1, state.input, 0)
    _, at, value = last.detail.split(b" ", 2)
    return _Next((iteration_of(last.item) or 0) + 1, state.input if value == b"-" else value, int(at))


def _iterate(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: Loop
    value: bytes
    node, value = call.subject
    iteration, place, results = call.iteration or 1, f"input.{node.name}", f"results.{node.name}"
    result_type = node.types.result
    if iteration == 1 and node.map_input is not None:
        mapped = yield Invoke(node.map_input, (tools.context(call),))
        value = tools.encode(mapped, place, node.types.input)
    first = tools.decode(value, node.types.input, place)
    result = yield Invoke(node.handler, (first, tools.context(call)), handler=True)
    given = ending_with(result, tools, node.name, node.types)
    if isinstance(given, Snapshot):
        return given
    encoded = given.value or b"null"
    ended = iteration >= node.max_iterations
    if not ended and node.until is not None:
        ended = bool((yield Invoke(node.until, (tools.decode(encoded, result_type, results), iteration))))
    if ended:
        return Done(encoded, _END)
    if node.feedback is not None:
        fed = yield Invoke(node.feedback, (tools.decode(encoded, result_type, results),))
        value = tools.encode(fed, place, node.types.input)
    at = 0
    if node.pause is not None:
        pause = node.pause
        if callable(pause):
            pause = yield Invoke(pause, (tools.decode(encoded, result_type, results), iteration))
        at = wake_at(pause, tools.latest() if pause else tools.now(), f"the pause of {node.name}")
    unchanged = node.map_input is None and node.feedback is None
    return Done(encoded, b"next %d %b" % (at, b"-" if unchanged else value))
