"""A kind of node that stepwell does not have: a ballot, whose voters are asked one after another; no test lives here.

It is made as the book says: a class of node, a builder call, and one `Kind` in the list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from stepwell import Branch
from stepwell.core.attempts import call_for, unless_waiting
from stepwell.core.decisions import Done, Invoke
from stepwell.core.journal import Work
from stepwell.core.kinds import Kind
from stepwell.core.kinds.functions import FunctionName, changed_branches
from stepwell.core.kinds.kind import absent, texts_in
from stepwell.workflow.policy import DEFAULT_POLICY, Policy

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from stepwell import Workflow
    from stepwell.core.decisions import Call, Decision, Ending, Tools
    from stepwell.core.journal import JournalRow
    from stepwell.core.kinds.functions import Change
    from stepwell.core.kinds.kind import Done as DoneRow
    from stepwell.core.state import RunState
    from stepwell.workflow.nodes import Function


@dataclass(frozen=True, slots=True)
class Ballot:
    """Asks voters one after another; the result is what each said."""

    kind: ClassVar[str] = "ballot"
    name: str
    voters: Mapping[str, Branch]
    when: Function | None = None
    policy: Policy = DEFAULT_POLICY

    @property
    def names(self) -> tuple[str, ...]:
        """One result, under its own name."""
        return (self.name,)


def ballot(workflow: Workflow, name: str, voters: Mapping[str, Branch], when: Function | None = None) -> Workflow:
    """What the builder's method of such nodes would be."""
    return workflow._add(f"ballot {name}", Ballot(name, voters, when))


class BallotKind(Kind[Ballot]):
    """Answers for ballots."""

    row_kinds = frozenset({"vote"})

    def outline(self, node: Ballot) -> dict[str, Any]:
        return {"voters": list(node.voters)}

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> Ballot:
        return Ballot(name, dict.fromkeys(texts_in(outline, "voters"), Branch(absent, absent)))

    def row_names(self, node: Ballot) -> frozenset[str]:
        return frozenset([node.name, *node.voters])

    def next_work(self, node: Ballot, state: RunState) -> Work:
        votes = (Work(node.name, voter, "do", "vote") for voter in node.voters)
        return next(vote for vote in votes if state.progress_of(vote).outcome is None)

    def decide(self, node: Ballot, state: RunState, now: int) -> tuple[Decision, ...]:
        work = self.next_work(node, state)
        waiting = unless_waiting(state, work, now)
        return (waiting or call_for(state, work, _vote, node.policy, subject=node.voters[work.item].handler),)

    def results(self, node: Ballot, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
        if row.item != tuple(node.voters)[-1]:
            return None
        return {node.name: state.values.join({**self.partial_results(node, state), row.item: row.value or b""})}

    def partial_results(self, node: Ballot, state: RunState) -> Mapping[str, bytes]:
        """What each voter has said so far."""
        rows = {voter: state.progress_of(Work(node.name, voter)).outcome for voter in node.voters}
        return {voter: row.value for voter, row in rows.items() if row is not None and row.value is not None}

    def undone(self, node: Ballot, state: RunState, item: str) -> Branch | None:
        return node.voters.get(item)

    def with_functions(self, node: Ballot, change: Change) -> Ballot:
        return replace(node, voters=changed_branches(node.voters, change, FunctionName))

    def done_words(self, node: Ballot, done: Sequence[DoneRow]) -> str:
        return f"{len(done)} votes"

    def progress_words(self, node: Ballot, done: Sequence[DoneRow]) -> str:
        return f"vote {len(done) + 1} of {len(node.voters)}"


def _vote(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    said = yield Invoke(call.subject, (tools.context(call),), handler=True)
    return Done(tools.encode(said, f"results.{call.step}"))
