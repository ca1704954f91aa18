"""The step: one call of a handler, which may suspend itself and is then entered again by a signal of its name.

The signal is consumed by the commit of the re-entered step's outcome, not when the step is entered: after a crash in
between, the step is entered again with the same payload (I6).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for, unless_waiting
from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Park, Snapshot, Tools
from stepwell.core.flat import PlainStep, is_async
from stepwell.core.journal import Work
from stepwell.core.kinds.functions import FunctionName, changed_undo
from stepwell.core.kinds.kind import Kind, absent
from stepwell.core.mailbox import MessageName
from stepwell.core.types import Declares
from stepwell.workflow.nodes import Step
from stepwell.workflow.policy import Suspended

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from stepwell.core.journal import JournalRow
    from stepwell.core.kinds.functions import Change
    from stepwell.core.kinds.kind import Undone
    from stepwell.core.state import RunState
    from stepwell.workflow.annotations import HandlerTypes


class StepKind(Kind[Step]):
    """Answers for steps."""

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> Step:
        """A step of that name."""
        return Step(name, absent, absent, undo="attempted")

    def next_work(self, node: Step, state: RunState) -> Work:
        """The call."""
        return Work(node.name)

    def decide(self, node: Step, state: RunState, now: int) -> tuple[Decision, ...]:
        """Calls the handler; a suspended one only once its signal is here."""
        work = Work(node.name)
        if not state.progress and not state.in_flight:
            return (call_for(state, work, _call, node.policy, subject=node),)
        if state.progress_of(work).snapshot is None:
            waiting = unless_waiting(state, work, now)
            return (waiting or call_for(state, work, _call, node.policy, subject=node),)
        message = state.first_message(self.awaits(node))
        if message is None:
            since = state.parked.at if state.parked else now
            return (Park(since, wake_at=None, absent=self.awaits(node)),)
        resume = (message.n, message.value or state.values.null)
        waiting = unless_waiting(state, work, now)
        return (waiting or call_for(state, work, _call, node.policy, subject=node, resume=resume),)

    def accepts(self, node: Step, state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
        """Its handler may have suspended itself."""
        return (row.item, row.phase) == ("", "do")

    def partial_results(self, node: Step, state: RunState) -> Mapping[str, bytes]:
        """What a suspended handler left for itself."""
        progress = state.progress_of(Work(node.name))
        return {node.name: progress.snapshot} if progress.snapshot is not None and progress.outcome is None else {}

    def plain(self, node: Step) -> PlainStep | None:
        """A step without a condition whose handler is async."""
        if node.when is not None or not is_async(node.handler):
            return None
        place, is_undone = f"results.{node.name}", node.compensate is not None
        return PlainStep(node.name, node.handler, place, node.policy, is_undone, node.types.result.type)

    def awaits(self, node: Step) -> MessageName:
        """The signal that enters it again, once it has suspended itself."""
        return MessageName("signal", node.name)

    def suspends_as(self, node: Step) -> tuple[str, ...]:
        """The step itself."""
        return (node.name,)

    def undone(self, node: Step, state: RunState, item: str) -> Undone:
        """The step."""
        return node

    def with_functions(self, node: Step, change: Change) -> Step:
        """The handler and the compensator."""
        name = FunctionName(node.name)
        return replace(node, handler=change(name, node.handler), compensate=changed_undo(node.compensate, name, change))

    def declares(self, node: Step) -> Declares:
        """The result, and what a suspended handler leaves and is answered."""
        return declared_by(node.name, node.types)


def declared_by(name: str, types: HandlerTypes) -> Declares:
    """What is declared of the one handler whose result is found under this name."""
    handlers = () if types.result.handler is None else (types.result.handler,)
    return Declares({name: types.result}, {name: handlers}, {name: types.snapshot}, {name: types.resume})


def _call(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: Step = call.subject
    result = yield Invoke(node.handler, (tools.context(call),), handler=True)
    if isinstance(result, Suspended):
        return Snapshot(tools.encode(result.snapshot, f"snapshot.{call.step}", node.types.snapshot))
    if isinstance(result, dict) and result.get("status") == "suspended" and "state" in result:
        return Snapshot(tools.encode(result, f"snapshot.{call.step}", node.types.snapshot))
    return Done(tools.encode(result, f"results.{call.step}", node.types.result))
