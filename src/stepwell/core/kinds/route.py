"""The route: a resolver chooses a branch, the choice is journaled, and only then the branch is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for, unless_waiting
from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Refused, Tools
from stepwell.core.journal import Work
from stepwell.core.kinds.kind import Kind
from stepwell.core.kinds.parallel import entry_call
from stepwell.workflow.nodes import Route

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState
    from stepwell.workflow.nodes import Function


class RouteKind(Kind[Route]):
    """Answers for routes."""

    def outline(self, node: Route) -> dict[str, Any]:
        """The branches, by name: their order means nothing."""
        return {"branches": sorted(node.branches)}

    def next_work(self, node: Route, state: RunState) -> Work:
        """The choice, then the branch."""
        return Work(node.name) if node.name in state.choices else Work(node.name, "", "choose", "route")

    def decide(self, node: Route, state: RunState, now: int) -> tuple[Decision, ...]:
        """Asks the resolver, then calls the branch it chose."""
        work = self.next_work(node, state)
        waiting = unless_waiting(state, work, now)
        if waiting is not None:
            return (waiting,)
        if work.phase == "choose":
            return (call_for(state, work, _choose, node.policy, subject=node),)
        handler = node.branches[state.choices[node.name]].handler
        return (call_for(state, work, entry_call, node.policy, subject=handler),)

    def accepts(self, node: Route, state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
        """The choice must name a branch."""
        if row.phase == "choose" and row.status == "completed" and self.choice(row) not in node.branches:
            return False
        return super().accepts(node, state, row, is_after_gap=is_after_gap)

    def choice(self, row: JournalRow) -> str:
        """The branch's name."""
        return (row.detail or b"").decode(errors="replace")

    def compensator(self, node: Route, state: RunState, item: str) -> Function | None:
        """What undoes the chosen branch."""
        return node.branches[state.choices[node.name]].compensate


def _choose(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: Route = call.subject
    branch = yield Invoke(node.resolver, (tools.context(call),))
    if not isinstance(branch, str) or branch not in node.branches:
        return Refused("UnknownBranch", f"no branch {branch!r:.200}. Known: {', '.join(node.branches)}.")
    return Done(tools.encode(str(branch), "branch"), detail=str(branch).encode())
