"""The child workflow: a run of its own, spawned once, whose end comes back as a message.

The commit that spawns the child also suspends its parent, and the child's id is made before that commit is first tried:
a commit that is repeated after a lost answer starts no second child (I8). The child's end is a message to the node, so
it is found whether the parent waits already or not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for, outcome, unless_waiting
from stepwell.core.decisions import Call, Decision, Ending, Invoke, Park, Record, Spawn, Spawned, SpawnWith, Tools
from stepwell.core.journal import UNCALLED, Work
from stepwell.core.kinds.functions import FunctionName, changed_undo
from stepwell.core.kinds.kind import Kind, absent, text_in
from stepwell.core.mailbox import MessageName
from stepwell.workflow.nodes import ChildWorkflow

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from stepwell.core.journal import JournalRow
    from stepwell.core.kinds.functions import Change
    from stepwell.core.kinds.kind import Undone
    from stepwell.core.state import RunState


class ChildKind(Kind[ChildWorkflow]):
    """Answers for child workflows."""

    row_kinds: frozenset[str] = frozenset({"child"})
    needs_store = True

    def outline(self, node: ChildWorkflow) -> dict[str, Any]:
        """The workflow of the child."""
        return {"workflow": node.workflow}

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> ChildWorkflow:
        """A child of that workflow."""
        return ChildWorkflow(name, text_in(outline, "workflow"), compensate=absent, undo="attempted")

    def difference(self, was: ChildWorkflow, now: ChildWorkflow) -> str:
        """Another workflow."""
        return f"starts {now.workflow}, not {was.workflow}" if was.workflow != now.workflow else ""

    def next_work(self, node: ChildWorkflow, state: RunState) -> Work:
        """The child."""
        return Work(node.name, kind="child")

    def decide(self, node: ChildWorkflow, state: RunState, now: int) -> tuple[Decision, ...]:
        """Maps the input, spawns the child, waits, and takes its results or its failure."""
        work = self.next_work(node, state)
        since = state.parked.at if state.parked else now
        message = state.first_message(self.awaits(node))
        if message is not None:
            failure = None if message.error is None else (message.error.type, message.error.message)
            value = None if failure else message.value
            child = self.evidence(node, state, work)
            row = outcome(state, work, started_at=since, now=now, value=value, failure=failure, detail=child)
            return (Record(row, consumed=(message.n,)),)
        if state.parked is not None:
            return (Park(since, wake_at=None, absent=(self.awaits(node),)),)
        mapper = node.map_input
        if mapper is None:
            return (Spawn(Spawned(node.workflow, state.input, node.name), now),)
        waiting = unless_waiting(state, work, now)
        return (waiting or call_for(state, work, _map_input, node.policy, subject=(node, mapper)),)

    def awaits(self, node: ChildWorkflow) -> MessageName:
        """The end of its child."""
        return MessageName("child", node.name)

    def undone(self, node: ChildWorkflow, state: RunState, item: str) -> Undone:
        """The child."""
        return node

    def open_work(self, node: ChildWorkflow, state: RunState) -> Iterable[Work]:
        """None: a child that was started has an end."""
        return ()

    def evidence(self, node: ChildWorkflow, state: RunState, work: Work) -> bytes | None:
        """The child's run id once its end is here; it was never started if the run does not wait for it."""
        message = state.first_message(self.awaits(node))
        if message is not None:
            return None if message.sender is None else message.sender.encode()
        return UNCALLED if state.parked is None else None

    def undoes_keys(self, node: ChildWorkflow, state: RunState, row: JournalRow) -> tuple[str, ...]:
        """The child's run id."""
        return () if row.detail is None else (row.detail.decode(errors="replace"),)

    def before_cancel(self, node: ChildWorkflow, state: RunState, now: int) -> tuple[Decision, ...]:
        """Waits for the end of the child, which is to be undone first, and takes it."""
        return () if state.parked is None else self.decide(node, state, now)

    def with_functions(self, node: ChildWorkflow, change: Change) -> ChildWorkflow:
        """The compensator: the child's own functions are those of its workflow."""
        return replace(node, compensate=changed_undo(node.compensate, FunctionName(node.name), change))

    def child(self, node: ChildWorkflow) -> str:
        """The child's workflow."""
        return node.workflow


def _map_input(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: ChildWorkflow
    node, mapper = call.subject
    mapped = yield Invoke(mapper, (tools.context(call),))
    return SpawnWith(node.workflow, tools.encode_input(mapped, f"input.{node.name}", node.workflow))
