"""What there is to know about a kind of node, as one object; a kind overrides what differs from plain work.

All that is particular to a kind is asked here, by the core, the engine, the readers and the edges alike, so that a new
kind is a class in `workflow`, a builder method and one file beside this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from stepwell.core.decisions import Decision
    from stepwell.core.journal import JournalRow, Work
    from stepwell.core.mailbox import MessageName
    from stepwell.core.state import RunState
    from stepwell.workflow.nodes import Function

N = TypeVar("N", bound=Any)


class Kind(Generic[N]):
    """Answers for all nodes of one class; has no state of its own."""

    needs_store = False
    """Whether such a node waits for what only a store can bring."""

    def outline(self, node: N) -> dict[str, Any]:
        """What a stored position depends on besides the node's name and kind; part of the plan's fingerprint."""
        return {}

    def next_work(self, node: N, state: RunState) -> Work:
        """The piece of work that the run stands before."""
        raise NotImplementedError

    def condition(self, node: N, state: RunState) -> Work:
        """The piece of work under which the node's condition is asked."""
        return self.next_work(node, state)

    def decide(self, node: N, state: RunState, now: int) -> tuple[Decision, ...]:
        """What the run should do at this node now."""
        raise NotImplementedError

    def accepts(self, node: N, state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
        """Whether this whole row, the next of its piece of work, can be the next one of the node."""
        work = self.next_work(node, state)
        return (row.item, row.phase) == (work.item, work.phase) and row.status != "suspended"

    def results(self, node: N, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
        """The node's results by name if this completed row ends it, else None."""
        return {node.name: row.value or b"null"}

    def choice(self, row: JournalRow) -> str:
        """What a completed row of phase `choose` decides, for the rest of the run."""
        raise NotImplementedError

    def entries(self, node: N) -> tuple[str, ...] | None:
        """The names of the entries that are attempted beside each other, or None for a node without."""
        return None

    def awaits(self, node: N) -> MessageName | None:
        """The message that the node may look for in the mailbox, or None."""
        return None

    def compensator(self, node: N, state: RunState, item: str) -> Function | None:
        """The function that undoes a completed piece of work of this node, or None."""
        return None

    def child(self, node: N) -> str | None:
        """The workflow that the node starts a run of, or None."""
        return None

    def needs_only_last(self, node: N, *, compensating: bool) -> bool:
        """Whether a run can go on without the node's rows before its last outcome."""
        return False

    def may_leave_out(self, node: N, state: RunState, row: JournalRow) -> bool:
        """Whether the rows between where the run stands and this one can be such rows that were not loaded."""
        return False
