"""What the core asks of the engine: nine decisions, and the requests that the script of a call makes.

A decision says what happens to a run, a script what happens in one attempt: it yields `Invoke` for each function of the
user's and returns how the attempt ended. So no kind of node awaits anything, and the engine knows no kind of node.

New kinds of nodes are said in these words; none of them names a kind of node.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from stepwell.core.journal import iteration_of, key_of
from stepwell.workflow.annotations import UNDECLARED

if TYPE_CHECKING:
    from stepwell.core.journal import JournalRow, Phase, RowKind, Work
    from stepwell.core.mailbox import MessageName
    from stepwell.core.sub_steps import SubStepNames
    from stepwell.errors import Failure
    from stepwell.workflow.annotations import Declaration
    from stepwell.workflow.context import Context
    from stepwell.workflow.policy import Policy


class Tools(Protocol):
    """What a script is given besides its call: the codec, contexts and the clock."""

    def encode(self, value: Any, place: str, declaration: Declaration = UNDECLARED) -> bytes:
        """The value as stored, by what is declared of it; raises PayloadError."""

    def encode_input(self, value: Any, place: str, workflow: str) -> bytes:
        """The input of a child of that workflow, as its definition declares it; raises PayloadError."""

    def decode(self, data: bytes, declaration: Declaration = UNDECLARED, place: str = "") -> Any:
        """A fresh copy of a stored value, as what is declared of it; raises StoredValueError."""

    def context(self, call: Call) -> Context:
        """A fresh context of this call."""

    def now(self) -> int:
        """The instant, not later than by the store's clock: it decides whether a timer is over."""

    def latest(self) -> int:
        """The instant, not earlier than by the store's clock: durations are added to it."""


class Invoke(NamedTuple):
    """A script's request: call the user's function with these arguments, and send back what it returns.

    `handler`: it does the node's work, so it counts in the worker's concurrency and, if plain, runs in a thread.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    handler: bool = False


class Done(NamedTuple):
    """A script's end: the work succeeded."""

    value: bytes | None
    detail: bytes | None = None


class Snapshot(NamedTuple):
    """A script's end: the work suspends itself."""

    value: bytes


class WaitUntil(NamedTuple):
    """A script's end: the node waits until this instant."""

    wake_at: int


class SpawnWith(NamedTuple):
    """A script's end: a child of that workflow is to be started with this input."""

    workflow: str
    value: bytes


class Answer(NamedTuple):
    """A script's end: the node's condition was asked."""

    holds: bool


class Refused(NamedTuple):
    """A script's end: the node fails now, even if attempts are left."""

    type: str
    message: str


Ending: TypeAlias = Done | Snapshot | WaitUntil | SpawnWith | Answer | Refused
Script: TypeAlias = Callable[["Call", Tools], Generator[Invoke, Any, Ending]]


@dataclass(slots=True)
class Call:
    """Run the user's code of one attempt, as its script says. The engine sets what stands last.

    `undoes`: the idempotency keys of what a compensator undoes.
    """

    run_id: str
    work: Work
    attempt: int
    entries: int
    step: str
    policy: Policy
    script: Script
    results: Mapping[str, bytes]
    subject: Any = None
    resume: tuple[int, bytes] | None = None
    undoes: tuple[str, ...] = ()
    started_at: int = 0
    timed_from: int = 0
    was_called: bool = False
    """Whether the handler was called, not only what is asked before it."""
    sub_steps: SubStepNames | None = None
    """Those that the attempt has begun; None until the first."""
    waits_for_late: bool = False
    """Whether it begins only when handlers of the same work have ended whose time was over."""

    @property
    def node(self) -> str:
        """The node it works for."""
        return self.work.node

    @property
    def item(self) -> str:
        """The entry of a parallel or the iteration of a loop; empty for the node itself."""
        return self.work.item

    @property
    def phase(self) -> Phase:
        """Which part of the node's work it does."""
        return self.work.phase

    @property
    def kind(self) -> RowKind:
        """The kind of its rows."""
        return self.work.kind

    @property
    def identity(self) -> tuple[str, str, Phase]:
        """What distinguishes it from the run's other calls in flight."""
        return self.work[:3]

    @property
    def iteration(self) -> int | None:
        """The number of the loop's iteration, or None."""
        return iteration_of(self.item) if self.item else None

    @property
    def key(self) -> str:
        """The idempotency key."""
        return key_of(self.run_id, self.work, self.entries)

    @property
    def resumed_with(self) -> bytes | None:
        """The payload of the signal that re-entered the work."""
        return None if self.resume is None else self.resume[1]


class Record(NamedTuple):
    """Journal this outcome, which needs no user code, and consume these messages of the mailbox.

    `absent`: the message whose absence the outcome depends on; if one has come, the store refuses it.
    """

    row: JournalRow
    consumed: tuple[int, ...] = ()
    absent: MessageName | None = None


class Park(NamedTuple):
    """Let go of the run until the instant, or until one of the messages comes; refused if one has come.

    `since`: when it began to wait for nothing but these; None if it will move by itself, as for a next attempt.
    """

    since: int | None
    wake_at: int | None
    absent: tuple[MessageName, ...] = ()

    @property
    def awaiting(self) -> tuple[str, ...]:
        """The signals that it waits for."""
        return tuple(one.name for one in self.absent if one.kind == "signal")


class Spawned(NamedTuple):
    """A child run to be written in its parent's commit."""

    workflow: str
    value: bytes
    parent_node: str


class Spawn(NamedTuple):
    """Start a child run and wait for its end."""

    child: Spawned
    since: int


class Wait(NamedTuple):
    """Begin nothing before a call in flight ends, this instant comes, or one of these messages is here."""

    until: int | None
    absent: tuple[MessageName, ...] = ()


class Compensate(NamedTuple):
    """The run's status becomes `compensating`."""


class Complete(NamedTuple):
    """The run ends; its parent gets these results."""

    results: bytes


class Fail(NamedTuple):
    """The run ends; its parent gets this failure."""

    failure: Failure


class Cancel(NamedTuple):
    """The run ends as canceled, as was requested; its parent gets that as a failure."""


Decision: TypeAlias = Call | Record | Park | Spawn | Wait | Compensate | Complete | Fail | Cancel
