"""What there is to know about a kind of node, as one object; a kind overrides what differs from plain work.

All that is particular to a kind is asked here, by the core, the engine, the readers and the edges alike, so that a new
kind is a class in `workflow`, a builder method and one file beside this one. A method that few kinds need has an answer
here that fits all others. Docstrings here are the questions, those of the kinds the answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from stepwell.core.journal import UNCALLED, Work, key_of
from stepwell.core.types import Declares

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepwell.core.decisions import Decision
    from stepwell.core.flat import PlainStep
    from stepwell.core.journal import JournalRow
    from stepwell.core.kinds.functions import Change
    from stepwell.core.mailbox import MessageName
    from stepwell.core.state import RunState
    from stepwell.workflow.annotations import Declaration
    from stepwell.workflow.nodes import Function, Undo

N = TypeVar("N", bound=Any)


class Done(NamedTuple):
    """A completed row as a display knows it: the name of its node or entry, the row's kind, and the decoded value."""

    name: str
    row_kind: str
    value: Any


class Undone(Protocol):
    """What has a compensator: a node, or an entry or branch of one."""

    @property
    def compensate(self) -> Function | None:
        """The compensator."""

    @property
    def undo(self) -> Undo:
        """Of what it undoes."""


class Kind(Generic[N]):
    """Answers for all nodes of one class; has no state of its own."""

    row_kinds: frozenset[str] = frozenset({"step"})
    """The kinds of the rows that such a node writes."""
    needs_store = False
    """Whether such a node waits for what only a store can bring."""

    # ------------------------------------------------------------------------------------ what is stored of a workflow

    def outline(self, node: N) -> dict[str, Any]:
        """What a stored position depends on besides the node's name and kind; part of the plan's fingerprint."""
        return {}

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> N:
        """A node of that outline, without its functions; raises ValueError for an outline of no such node."""
        raise NotImplementedError

    def difference(self, was: N, now: N) -> str:
        """Where the outlines of two nodes of one name differ, seen from the first; empty where they do not."""
        return ""

    # ------------------------------------------------------------------------------------------- what a run does next

    def next_work(self, node: N, state: RunState) -> Work:
        """The piece of work that the run stands before."""
        raise NotImplementedError

    def condition(self, node: N, state: RunState) -> Work:
        """The piece of work under which the node's condition is asked."""
        return self.next_work(node, state)

    def decide(self, node: N, state: RunState, now: int) -> tuple[Decision, ...]:
        """What the run should do at this node now."""
        raise NotImplementedError

    def entries(self, node: N) -> tuple[str, ...] | None:
        """The names of the entries that are attempted beside each other, or None for a node without."""
        return None

    # --------------------------------------------------------------------------------------------------- what rows mean

    def accepts(self, node: N, state: RunState, row: JournalRow, *, is_after_gap: bool) -> bool:
        """Whether this whole row, the next of its piece of work, can be the next one of the node."""
        work = self.next_work(node, state)
        if row.status == "suspended" and (row.phase != "do" or not self.suspends_as(node)):
            return False
        return (row.item, row.phase) == (work.item, work.phase)

    def has_sub_steps(self, node: N, state: RunState, row: JournalRow) -> bool:
        """Whether a handler may be in flight whose sub-step this row is."""
        return False

    def plain(self, node: N) -> PlainStep | None:
        """What the flat path needs of the node, if the node can do nothing but call one async handler; else None."""
        return None

    def results(self, node: N, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
        """The node's results by name if this completed row ends it, else None."""
        return {node.name: row.value or state.values.null}

    def partial_results(self, node: N, state: RunState) -> Mapping[str, bytes]:
        """What a node that the run is at has given so far, by name."""
        return {}

    def choice(self, row: JournalRow) -> str:
        """What a completed row of phase `choose` decides, for the rest of the run."""
        raise NotImplementedError

    def needs_only_last(self, node: N, *, compensating: bool) -> bool:
        """Whether a run can go on without the node's rows before its last outcome."""
        return False

    def may_leave_out(self, node: N, state: RunState, row: JournalRow) -> bool:
        """Whether the rows between where the run stands and this one can be such rows that were not loaded."""
        return False

    # ------------------------------------------------------------------------------------------- what may have happened

    def open_work(self, node: N, state: RunState) -> Iterable[Work]:
        """The pieces of work at this node that have no outcome, if the run goes no further."""
        work = self.next_work(node, state)
        return () if work.phase != "do" or state.progress_of(work).outcome is not None else (work,)

    def evidence(self, node: N, state: RunState, work: Work) -> bytes | None:
        """The detail of this work's failure where no attempt tells more: whether it was certainly never called."""
        return None if state.is_unknown or state.progress_of(work).called else UNCALLED

    def undoes_keys(self, node: N, state: RunState, row: JournalRow) -> tuple[str, ...]:
        """By which idempotency keys what this outcome is of was known outside, in the order of its entries."""
        work, entries = Work(row.node, row.item), state.entered.get((row.node, row.item), 0)
        return tuple(key_of(state.run_id, work, entry) for entry in range(entries + 1))

    def before_cancel(self, node: N, state: RunState, now: int) -> tuple[Decision, ...]:
        """What is to be done at this node before a run that is to be canceled is undone; nothing if it is empty."""
        return ()

    # ------------------------------------------------------------------------------------------ other runs and signals

    def awaits(self, node: N) -> MessageName | None:
        """The one message that the node may look for in the mailbox, or None."""
        return None

    def awaited(self, node: N, state: RunState) -> tuple[MessageName, ...]:
        """The signals that a run at the node waits for, and that are not known to be in its mailbox."""
        return ()

    def signals(self, node: N) -> tuple[str, ...]:
        """The signals that the node is there to wait for."""
        return ()

    def suspends_as(self, node: N) -> tuple[str, ...]:
        """The names of signals for what of the node may suspend itself."""
        return ()

    def takes(self, node: N) -> Sequence[tuple[str, Declaration]]:
        """What the node's waits and suspended work declare of their payloads, with the signal's name for each."""
        return ()

    def child(self, node: N) -> str | None:
        """The workflow that the node starts a run of, or None."""
        return None

    # ------------------------------------------------------------------------------------------------------- functions

    def undone(self, node: N, state: RunState, item: str) -> Undone | None:
        """What has the compensator of this piece of work, or None where none can have one."""
        return None

    def with_functions(self, node: N, change: Change) -> N:
        """A copy of the node with the functions that `change` gives for its handlers and compensators."""
        return node

    # ----------------------------------------------------------------------------------------------------------- types

    def declares(self, node: N) -> Declares:
        """What the node's values are declared to be, and the handlers whose results it has."""
        return Declares()

    # --------------------------------------------------------------------------------------------------------- display

    def row_names(self, node: N) -> frozenset[str]:
        """The names under which the node's rows are shown: its own, and those of its entries."""
        return frozenset([node.name, *node.names])

    def done_words(self, node: N, done: Sequence[Done]) -> str:
        """A word on a node that has ended, from what of it completed."""
        return ""

    def progress_words(self, node: N, done: Sequence[Done]) -> str:
        """A word on a node that is under way, from what of it has completed."""
        return ""


def absent(*_given: object) -> Any:
    """Stands for a function of a node that was made of its outline; never called."""
    raise NotImplementedError


def text_in(outline: Mapping[str, Any], key: str) -> str:
    """A text in an outline; raises ValueError for anything else."""
    value = outline.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is a text, not {value!r:.100}")  # noqa: TRY004  what is stored was changed by hand
    return value


def texts_in(outline: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts in an outline, one at least; raises ValueError for anything else."""
    value = outline.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{key} is a list of texts, not {value!r:.100}")
    return value


def other_names(what: str, was: Sequence[str], now: Sequence[str]) -> str:
    """How two lists of names differ, seen from the first; empty where they do not."""
    if was == now:
        return ""
    changed = sorted(set(was) ^ set(now))
    return f"has other {what}: {', '.join(changed)}" if changed else f"has its {what} in another order"
