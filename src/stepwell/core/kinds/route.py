"""The route: a resolver chooses a branch, the choice is journaled, and only then the branch is called.

A resolver may depend on anything. Since its choice is stored first, a branch that was begun before a crash is the one
that is attempted again, and its compensator the one that undoes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for, unless_waiting
from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Refused, Tools
from stepwell.core.journal import CHOICE, Work
from stepwell.core.kinds.functions import FunctionName, changed_branches
from stepwell.core.kinds.kind import Done as DoneRow
from stepwell.core.kinds.kind import Kind, absent, other_names, texts_in
from stepwell.core.kinds.parallel import declared_by_branches
from stepwell.core.suspension import answer_to, handler_call, left_by, next_attempt, unanswered
from stepwell.core.types import Declares
from stepwell.workflow.nodes import Branch, Route

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from stepwell.core.journal import JournalRow
    from stepwell.core.kinds.functions import Change
    from stepwell.core.kinds.kind import Undone
    from stepwell.core.mailbox import MessageName
    from stepwell.core.state import RunState
    from stepwell.workflow.annotations import Declaration


class RouteKind(Kind[Route]):
    """Answers for routes."""

    row_kinds: frozenset[str] = frozenset({CHOICE, "step"})

    def outline(self, node: Route) -> dict[str, Any]:
        """The names of the branches, sorted, since their order has no meaning."""
        return {"branches": sorted(node.branches)}

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> Route:
        """A route of these branches."""
        branch = Branch(absent, absent, undo="attempted")
        return Route(name, absent, dict.fromkeys(texts_in(outline, "branches"), branch))

    def difference(self, was: Route, now: Route) -> str:
        """Other branches."""
        return other_names("branches", sorted(was.branches), sorted(now.branches))

    def next_work(self, node: Route, state: RunState) -> Work:
        """The choice, then the branch."""
        return Work(node.name) if node.name in state.choices else Work(node.name, "", "choose", CHOICE)

    def decide(self, node: Route, state: RunState, now: int) -> tuple[Decision, ...]:
        """Asks the resolver, then calls the branch it chose."""
        work = self.next_work(node, state)
        if work.phase == "choose":
            waiting = unless_waiting(state, work, now)
            return (waiting or call_for(state, work, _choose, node.policy, subject=node),)
        branch = node.branches[state.choices[node.name]]
        return (next_attempt(state, work, handler_call, node.policy, now, types=branch.types, subject=branch),)

    def has_sub_steps(self, node: Route, state: RunState, row: JournalRow) -> bool:
        """Of the work that is next."""
        return (row.item, row.phase) == self.next_work(node, state)[1:3]

    def accepts(self, node: Route, state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
        """The choice must name a branch."""
        if row.phase == "choose" and row.status == "completed" and self.choice(row) not in node.branches:
            return False
        return super().accepts(node, state, row, is_after_gap=is_after_gap)

    def choice(self, row: JournalRow) -> str:
        """The branch's name."""
        return (row.detail or b"").decode(errors="replace")

    def partial_results(self, node: Route, state: RunState) -> Mapping[str, bytes]:
        """What a suspended branch left for itself."""
        return left_by(state, Work(node.name))

    def awaits(self, node: Route) -> MessageName:
        """The signal that enters the branch again, once it has suspended itself."""
        return answer_to(Work(node.name))

    def awaited(self, node: Route, state: RunState) -> tuple[MessageName, ...]:
        """That signal, while the branch is suspended."""
        return unanswered(state, Work(node.name))

    def takes(self, node: Route) -> Sequence[tuple[str, Declaration]]:
        """What answers a branch."""
        return [(node.name, branch.types.resume) for branch in node.branches.values()]

    def suspends_as(self, node: Route) -> tuple[str, ...]:
        """The branch, which goes by the route's name."""
        return (node.name,)

    def undone(self, node: Route, state: RunState, item: str) -> Undone | None:
        """The chosen branch."""
        return node.branches.get(state.choices.get(node.name, ""))

    def with_functions(self, node: Route, change: Change) -> Route:
        """Those of the branches, which go by the route's name and their own."""
        branches = changed_branches(
            node.branches, change, lambda branch: FunctionName(f"{node.name}/{branch}", (branch, node.name))
        )
        return replace(node, branches=branches)

    def declares(self, node: Route) -> Declares:
        """Its result, which is that of any branch."""
        by_branch = declared_by_branches({name: (node.name, branch) for name, branch in node.branches.items()})
        return Declares({node.name: node.types.result}, by_branch.handlers)

    def done_words(self, node: Route, done: Sequence[DoneRow]) -> str:
        """The branch that was chosen."""
        return ", ".join(str(one.value) for one in done if one.row_kind == CHOICE)


def _choose(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: Route = call.subject
    branch = yield Invoke(node.resolver, (tools.context(call),))
    if not isinstance(branch, str) or branch not in node.branches:
        return Refused("UnknownBranch", f"no branch {branch!r:.200}. Known: {', '.join(node.branches)}.")
    return Done(tools.encode(str(branch), "branch"), detail=str(branch).encode())
