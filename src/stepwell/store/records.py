"""What an engine and a store hand each other: runs, leases, advances, verdicts and pages, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepwell.core.journal import JournalRow
    from stepwell.core.mailbox import Message, MessageName
    from stepwell.core.needed import Needed
    from stepwell.core.statuses import Status
    from stepwell.errors import Failure

AT_ONCE = 0
"""As `Advance.due_at`: the run is due whatever any clock says, behind those that are so already."""
LOAD_BYTES = 4 * 2**20
"""A load gives runs until their journals would be more than this together; one run at least."""
CLAIM_BYTES = 4 * 2**20
"""A claim gives runs until their inputs would be more than this together; one run at least."""
Verdict: TypeAlias = Literal["ok", "done", "lost", "message", "cancel", "busy"]
"""*ok* applied; *done* had been applied before; *lost* the worker owns it no more; *message*: the one whose absence it
rests on may be there; *cancel*: that was requested, and the advance does not know; *busy* try again."""


LEFT = "the app was left while this call was under way"
"""Why a store that was closed meanwhile does nothing more."""


class Lane(NamedTuple):
    """Where runs of one kind wait: a queue, and a workflow in one version."""

    queue: str
    workflow: str
    fingerprint: str


class Definition(NamedTuple):
    """A workflow's outline as stored, so that a run can be read without its code."""

    lane: Lane
    outline: bytes


class NewRun(NamedTuple):
    """A run to be written; its id is made by the caller. `delay` in microseconds."""

    run_id: str
    lane: int
    workflow: str
    value: bytes
    key: str | None = None
    delay: int = 0
    parent_id: str | None = None
    parent_node: str | None = None


class Started(NamedTuple):
    """A run as it stands in the store; another id than was given is that of the key's first run, with its input."""

    run_id: str
    status: Status
    value: bytes | None = None


class Lease(NamedTuple):
    """A claimed run: what its worker needs to go on, and what its commits must name; `ref` is the store's own name."""

    run_id: str
    ref: int
    token: int
    seq: int
    messages: int
    crashes: int
    lane: int
    position: int
    status: Status
    wake_at: int | None
    parked_at: int | None
    parent_id: str | None
    parent_node: str | None
    value: bytes
    cancel_requested_at: int | None = None


class Leased(NamedTuple):
    """The runs leased to a worker, with their tokens, and those of them of which a cancel was requested."""

    tokens: Mapping[str, int]
    canceling: Sequence[str] = ()


class Claimed(NamedTuple):
    """The answer to a claim: `now` by the store's clock, and how long until more of these lanes is due (or None)."""

    leases: list[Lease]
    now: int
    next_due_in: int | None
    alive: bool = True
    cut: bool = False
    """Whether more was due than the bytes of one claim."""


class Wanted(NamedTuple):
    """What a worker needs of a claimed run's past: of its journal these rows, or all, and a name's first message."""

    lease: Lease
    message: MessageName | None = None
    rows: Needed | None = None


class Found(NamedTuple):
    """Some names, how many messages the run ever got (counted first), and its first unread one of each name."""

    names: tuple[MessageName, ...]
    messages: int
    found: tuple[Message, ...]


class History(NamedTuple):
    """A claimed run's past: its journal in order, as far as it was asked for, and what was found in its mailbox."""

    rows: list[JournalRow]
    found: Found
    last_of: tuple[str, ...] = ()
    """The nodes of which the rows before their last outcome were not asked for."""

    @property
    def size(self) -> int:
        """The bytes of the values in it."""
        return sum(len(row.value or b"") + len(row.detail or b"") for row in self.rows)


class ChildEnd(NamedTuple):
    """The end of a child, for its parent."""

    parent_id: str
    parent_node: str
    value: bytes | None
    error: Failure | None


class Advance:
    """One atomic change to one run: rows, position, and what makes it due next.

    `seq` is the journal length it extends. `absent` are the messages whose absence it rests on, all of one kind, `seen`
    up to which number the mailbox was looked through for them; it is refused when one of these names is behind that
    number. `awaiting` are the signals that the run waits for, `consumed` the messages it has used, `freed` those
    of them that were refused, whose keys are free again, and `recounted` is a stored row with another detail. With
    `release` the worker lets go: the run is due at `due_at`, or never by itself. `lean`: it only adds rows to a run
    that stays with its worker in the status it has. `usual`: its one row is of a plain step that this worker completed
    at its first attempt, and it is lean, or ends a run as completed that has no parent; so stores need not look. What
    is not set costs nothing.
    """

    lean: bool = False
    usual: bool = False
    absent: Sequence[MessageName] = ()
    seen: int = 0
    release: bool = False
    knows_cancel: bool = False
    """Whether it takes into account that a cancel was requested; else it is refused then, if it lets go of the run."""
    due_at: int | None = None
    wake_at: int | None = None
    awaiting: Sequence[str] = ()
    parked_at: int | None = None
    ended: bool = False
    consumed: Sequence[int] = ()
    freed: Sequence[int] = ()
    recounted: JournalRow | None = None
    spawned: Sequence[NewRun] = ()
    child_end: ChildEnd | None = None

    def __init__(  # noqa: PLR0917  the usual facts, on the hot path
        self, run_id: str, ref: int, token: int, seq: int, rows: Sequence[JournalRow], position: int, status: Status
    ) -> None:
        self.run_id = run_id
        self.ref = ref
        self.token = token
        self.seq = seq
        self.rows = rows
        self.position = position
        self.status = status

    @property
    def is_unless_asked(self) -> bool:
        """Whether it is refused when a cancel was requested."""
        return self.release and not self.knows_cancel


class Offer(NamedTuple):
    """What a worker serves: its lanes, how many handlers at a time, and how long it may be silent, in microseconds."""

    lanes: Sequence[int] = ()
    concurrency: int = 0
    lease: int = 0


NO_OFFER = Offer()


def as_column(awaiting: Sequence[str]) -> str | None:
    """Names of signals as the run's row holds them: one text, parted by spaces, which no name has; NULL for none."""
    return " ".join(awaiting) or None


def awaited_in(column: str | None) -> tuple[str, ...]:
    """The names of signals in the run's row; any text that was put there by hand is some."""
    return () if column is None else tuple(column.split(" "))


class WorkerRow(NamedTuple):
    """A registered worker. `silent_for` is by the store's clock; `dead` is True when its end is certain."""

    worker_id: str
    beat: int
    silent_for: int
    host: str
    pid: int
    dead: bool
    offer: Offer = NO_OFFER


class Changes(NamedTuple):
    """What other processes may have changed: the lanes where runs may be due, None for any; whether runs ended."""

    lanes: frozenset[int] | None
    ended: bool

    def joined(self, other: Changes) -> Changes:
        """Both."""
        any_lane = self.lanes is None or other.lanes is None
        lanes = None if any_lane else frozenset({*(self.lanes or ()), *(other.lanes or ())})
        return Changes(lanes, self.ended or other.ended)


ANY_CHANGES = Changes(None, ended=True)
"""Anything may have changed."""


class Delivered(NamedTuple):
    """The answer to a signal: whether it was taken, how the run stands, whether it is due for it, and its lane."""

    accepted: bool
    status: Status
    woken: bool
    lane: int = 0


class KeyedMessage(NamedTuple):
    """The message by which a run accepted a key: its name, when it came, and the receipt that its sender had kept."""

    name: str
    delivered_at: int | None
    receipt: bytes | None


class RunRow(NamedTuple):
    """A run as the edges read it; encoded values, instants in microseconds."""

    run_id: str
    key: str | None
    workflow: str
    status: Status
    position: int
    awaiting: str | None
    """The signals it waits for, in one text (`awaited_in`)."""
    wake_at: int | None
    parent_id: str | None
    created_at: int
    updated_at: int
    finished_at: int | None
    outline: bytes | None
    value: bytes | None = None
    messages: int = 0
    crashes: int = 0
    worker: str | None = None
    due_at: int | None = None
    lane: int = 0
    queue: str = ""
    fingerprint: str = ""
    damaged: str | None = None
    """Why its rows are not understood, as the worker said that parked it for that."""
    cancel_requested_at: int | None = None


class Page(NamedTuple):
    """Runs, with the rows by run id that tell their failures and what was undone.

    `retries`: of runs that try again, the newest failed attempt at what has no outcome yet. `unread`: how many signals
    a run has not used, by name.
    """

    runs: list[RunRow]
    rows: Mapping[str, list[JournalRow]]
    retries: Mapping[str, JournalRow] = {}
    unread: Mapping[str, Mapping[str, int]] = {}


class Snapshot(NamedTuple):
    """One run with its whole journal, and its children as a page."""

    run: RunRow
    rows: list[JournalRow]
    children: Page
    unread: Mapping[str, int] = {}


class Child(NamedTuple):
    """A child run that has not ended."""

    run_id: str
    parent_id: str
    workflow: str
    status: str
    damaged: str | None = None


class Situation(NamedTuple):
    """All that tells why some runs do not move, as of `now`: the runs, their children, and whom workers hold and serve.

    `children`: those that have not ended. `held`: how many runs each worker holds. `served`: the definitions that a
    registered worker serves, by lane.
    """

    now: int
    page: Page
    children: list[Child]
    held: Mapping[str, int]
    served: Mapping[int, Definition]


class Filter(NamedTuple):
    """Which runs a list wants."""

    status: str | None
    workflow: str | None
    key: str | None
    parent_id: str | None
    limit: int
    before: str | None
