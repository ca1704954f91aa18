"""The values that the core, the engine and the stores exchange: journal rows, mail, and where a run stands."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from stepwell.errors import Failure
    from stepwell.workflow.nodes import Node, Plan

Kind: TypeAlias = Literal["step", "route", "sleep", "signal", "child", "compensate"]
Phase: TypeAlias = Literal["choose", "do", "undo", "read"]
"""Of a piece of work; *read* has one row, the last: that the rows before it cannot be what happened."""
RowStatus: TypeAlias = Literal["completed", "failed", "skipped", "retrying", "suspended"]
Status: TypeAlias = Literal["pending", "running", "suspended", "compensating", "completed", "failed", "canceled"]

LIVE = frozenset({"pending", "running", "suspended", "compensating"})
ENDED = frozenset({"completed", "failed", "canceled"})
ASKED = b'{"at":"when"}'
"""The detail of a failed attempt at a node's condition: no answer was given yet."""
NULL = b"null"


def item_of(iteration: int) -> str:
    """How a loop's iteration is named in the journal's key: in the order of numbers; no entry's name can begin so."""
    return f"#{iteration:09}"


def iteration_of(item: str) -> int | None:
    """The iteration that a journal key's item names, or None."""
    return int(item[1:]) if item.startswith("#") else None


class JournalRow(NamedTuple):
    """One entry of a run's journal, in the order of the stored columns; instants in microseconds since 1970.

    `(node, item, phase, n)` is its key in the run: `n` is 0 for the outcome, and 1, 2, … for the retrying and suspended
    rows before it. `seq` is its place in the run, from 1: the order of completion. `ref` is the store's own
    name of the run.
    """

    ref: int
    seq: int
    node: str
    item: str
    phase: Phase
    n: int
    kind: Kind
    attempt: int
    status: RowStatus
    value: bytes | None
    detail: bytes | None
    error: Failure | None
    retry_at: int | None
    started_at: int
    finished_at: int
    worker: str


class MessageName(NamedTuple):
    """What a node looks for in its run's mailbox: a signal of that name, or the end of its child."""

    kind: Literal["signal", "child"]
    name: str


class Mail(NamedTuple):
    """Something from outside that a run has not used yet: a signal's payload, or the end of a child."""

    n: int
    kind: Literal["signal", "child"]
    name: str
    value: bytes | None
    error: Failure | None


class Spawned(NamedTuple):
    """A child run to be written in its parent's commit."""

    workflow: str
    value: bytes
    parent_node: str


@dataclass(slots=True)
class Progress:
    """How far one piece of work has come: a node, an entry, an iteration, a choice, or an undoing."""

    n: int = 0
    attempts: int = 0
    entries: int = 0
    retry_at: int | None = None
    snapshot: bytes | None = None
    outcome: JournalRow | None = None


@dataclass(slots=True)
class Fan:
    """The entries of the parallel that a run is at; kept up to date row by row, so that nobody walks through all.

    `ready` may begin at once, `retries` at their instants, soonest first; `results` are those that have completed.
    """

    ready: dict[str, None]
    retries: list[tuple[int, str]] = field(default_factory=list)
    results: dict[str, bytes] = field(default_factory=dict)

    def wait(self, item: str, until: int) -> None:
        """The entry's next attempt may begin at that instant."""
        insort(self.retries, (until, item))

    def take_out(self, item: str, retry_at: int | None) -> None:
        """The entry, whose next attempt was due at `retry_at`, has begun or ended."""
        self.ready.pop(item, None)
        if retry_at is not None:
            at = bisect_left(self.retries, (retry_at, item))
            if self.retries[at : at + 1] == [(retry_at, item)]:
                del self.retries[at]


@dataclass(slots=True)
class Parked:
    """How the run waits at its node: since when, until when, and for which signal."""

    at: int
    wake_at: int | None = None
    awaiting: str | None = None


@dataclass(slots=True)
class RunState:
    """A run's journal, folded up to its current node; only `stepwell.core.fold` changes it."""

    run_id: str
    ref: int
    plan: Plan
    worker: str
    input: bytes
    status: Status = "running"
    seq: int = 0
    crashes: int = 0
    mail: int = 0
    max_crashes: int = 5
    position: int = 0
    results: dict[str, bytes] = field(default_factory=dict)
    progress: dict[tuple[str, Phase], Progress] = field(default_factory=dict)
    undoing: dict[tuple[str, str], Progress] = field(default_factory=dict)
    completed: list[JournalRow] = field(default_factory=list)
    choices: dict[str, str] = field(default_factory=dict)
    failed: JournalRow | None = None
    last: JournalRow | None = None
    parked: Parked | None = None
    mailbox: list[Mail] = field(default_factory=list)
    known: dict[MessageName, int] = field(default_factory=dict)
    """Up to which number the mailbox has been looked through for messages of a name; nothing of it, for most names."""
    fan: Fan | None = None
    in_flight: set[tuple[str, str, Phase]] = field(default_factory=set)
    admitted: bool = False
    is_partial: bool = False
    """Whether completed work that can be undone is missing in `completed`, since it was not loaded."""
    lag: int = 0
    """By how much the instants that the core is given may be behind the store's clock; durations are added to more."""
    is_replaying: bool = False
    """Whether its journal is being read, and nothing was given its results yet: they may grow in place."""

    @property
    def node(self) -> Node:
        """The node it is at."""
        return self.plan.nodes[self.position]

    @property
    def at_end(self) -> bool:
        """Whether every node has its outcome."""
        return self.position >= len(self.plan.nodes)
