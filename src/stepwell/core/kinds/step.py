"""The step: one call of a handler, which may suspend itself and is then entered again by a signal of its name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for
from stepwell.core.flat import PlainStep, is_async
from stepwell.core.journal import Work
from stepwell.core.kinds.functions import FunctionName, changed_undo
from stepwell.core.kinds.kind import Kind, absent
from stepwell.core.suspension import answer_to, handler_call, left_by, next_attempt, unanswered
from stepwell.core.types import Declares
from stepwell.workflow.nodes import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepwell.core.decisions import Decision
    from stepwell.core.journal import JournalRow
    from stepwell.core.kinds.functions import Change
    from stepwell.core.kinds.kind import Undone
    from stepwell.core.mailbox import MessageName
    from stepwell.core.state import RunState
    from stepwell.workflow.annotations import Declaration, HandlerTypes


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
            return (call_for(state, work, handler_call, node.policy, subject=node),)
        return (next_attempt(state, work, handler_call, node.policy, now, types=node.types, subject=node),)

    def has_sub_steps(self, node: Step, state: RunState, row: JournalRow) -> bool:
        """Of the work that is next."""
        return (row.item, row.phase) == self.next_work(node, state)[1:3]

    def partial_results(self, node: Step, state: RunState) -> Mapping[str, bytes]:
        """What a suspended handler left for itself."""
        return left_by(state, Work(node.name))

    def plain(self, node: Step) -> PlainStep | None:
        """A step without a condition whose handler is async."""
        if node.when is not None or not is_async(node.handler):
            return None
        place, is_undone = f"results.{node.name}", node.compensate is not None
        return PlainStep(node.name, node.handler, place, node.policy, is_undone, node.types.result.type)

    def awaits(self, node: Step) -> MessageName:
        """The signal that enters it again, once it has suspended itself."""
        return answer_to(Work(node.name))

    def awaited(self, node: Step, state: RunState) -> tuple[MessageName, ...]:
        """That signal, while the step is suspended."""
        return unanswered(state, Work(node.name))

    def takes(self, node: Step) -> Sequence[tuple[str, Declaration]]:
        """What answers the step."""
        return ((node.name, node.types.resume),)

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
