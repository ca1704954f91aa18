"""What an engine asks of a store, and what the edges may read of it; a store keeps, and never decides.

Rule 1: every method is exactly one transaction, and is retried whole; ids are made by the caller before the first try,
so a lost answer is safe. Rule 2: a commit names worker, token and journal length as captured at the claim, and is
answered run by run. Rule 3: what comes from outside a run is a message in its mailbox; a decision that rests on the
absence of a message names it, and is refused when one of that name came; other names do not touch it. Rule 4: what is
due is judged by the store's clock. Instants are microseconds since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepwell.core.journal import JournalRow
    from stepwell.core.mailbox import Message, MessageName
    from stepwell.core.needed import Needed
    from stepwell.core.statuses import Status
    from stepwell.errors import Failure
    from stepwell.store.reading import Reader

AT_ONCE = 0
"""As `Advance.due_at`: the run is due whatever any clock says, behind those that are so already."""
LOAD_BYTES = 4 * 2**20
"""A load gives runs until their journals would be more than this together; one run at least."""
CLAIM_BYTES = 4 * 2**20
"""A claim gives runs until their inputs would be more than this together; one run at least."""
Verdict: TypeAlias = Literal["ok", "done", "lost", "message", "busy"]
"""*ok* applied; *done* had been applied before; *lost* the worker owns it no more; *message*: the one whose absence it
rests on may be there; *busy* try again."""


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
    awaiting: str | None
    parked_at: int | None
    parent_id: str | None
    parent_node: str | None
    value: bytes


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
    """A name, how many messages the run ever got (counted first), and its first unread one of that name."""

    name: MessageName | None
    messages: int
    message: Message | None


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

    `seq` is the journal length it extends. `absent` is the message whose absence it rests on, `seen` up to which number
    the mailbox was looked through for it; it is refused when one of that name is behind that number. With `release` the
    worker lets go: the run is due at `due_at`, or never by itself. `lean`: it only adds rows to a run that stays with
    its worker in the status it has. What is not set costs nothing: the usual advance sets seven facts.
    """

    lean: bool = False
    absent: MessageName | None = None
    seen: int = 0
    release: bool = False
    due_at: int | None = None
    wake_at: int | None = None
    awaiting: str | None = None
    parked_at: int | None = None
    ended: bool = False
    consumed: Sequence[int] = ()
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


class Offer(NamedTuple):
    """What a worker serves: its lanes, how many handlers at a time, and how long it may be silent, in microseconds."""

    lanes: Sequence[int] = ()
    concurrency: int = 0
    lease: int = 0


NO_OFFER = Offer()


class WorkerRow(NamedTuple):
    """A registered worker. `silent_for` is by the store's clock; `dead` is True when its end is certain."""

    worker_id: str
    beat: int
    silent_for: int
    host: str
    pid: int
    dead: bool
    offer: Offer = NO_OFFER


class Delivered(NamedTuple):
    """The answer to a signal: whether it was taken, how the run stands, whether it is due for it, and its lane."""

    accepted: bool
    status: Status
    woken: bool
    lane: int = 0


class RunRow(NamedTuple):
    """A run as the edges read it; encoded values, instants in microseconds."""

    run_id: str
    key: str | None
    workflow: str
    status: Status
    position: int
    awaiting: str | None
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


class HeartbeatConnection(Protocol):
    """A worker's own connection for its beat, used by one thread."""

    def beat(self) -> dict[str, int] | None:
        """Says that the worker lives; gives the runs leased to it with their tokens, or None when it was buried."""

    def close(self) -> None:
        """Closes the connection."""


class Store(Protocol):
    """The tables behind an engine: its verbs and a reader."""

    url: str
    latest: int
    """The newest schema version this store knows."""
    shared: bool
    """Whether other processes can write to it, so that a worker must beat and look for their changes."""
    sees_death: bool
    """Whether it tells at once that a worker's process is gone, so that looking often pays."""

    @property
    def reader(self) -> Reader:
        """What the edges read."""

    async def open(self) -> None:
        """Connects; raises StoreUnavailableError or SchemaError."""

    async def close(self) -> None:
        """Disconnects; what was acknowledged stays, and a call that comes later raises StoreUnavailableError.

        When it is cancelled, what is open closes by itself; it may be called again, to wait for that.
        """

    async def migrate(self) -> None:
        """Creates or upgrades the tables, whoever else does it at once."""

    async def schema(self) -> tuple[int, tuple[str, ...]]:
        """The stored schema version, and the names of the migrations it lacks."""

    def statements(self, after: int) -> list[str]:
        """What `migrate` runs on tables of that version, in order; connects to nothing."""

    async def define(self, definitions: Sequence[Definition]) -> list[int]:
        """The lanes' numbers, in order; unknown ones are stored with their definitions."""

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """Writes runs and makes them due, all or none; of a known key gives the first run; or UnknownLaneError."""

    async def claim(
        self,
        worker_id: str,
        lanes: Sequence[int],
        limit: int,
        suspects: int,
        *,
        worst: bool = True,
        timers_first: bool = False,
        most_bytes: int = CLAIM_BYTES,
    ) -> Claimed:
        """Leases up to `limit` due runs of these lanes, one at least, and more while their inputs are within the bytes.

        What is due at once, and timers that are over, are each taken in their order, half of the room for each; an odd
        one, and the first of all, is as `timers_first` says. `suspects` runs may have crashed two workers; one that
        crashed more may come as the only suspect of the claim, and only if the `worst` may come at all.
        """

    async def load(self, wanted: Sequence[Wanted], most_bytes: int = LOAD_BYTES) -> Mapping[str, History]:
        """The past of the first of these claimed runs, as many as the bytes allow, one at least; messages first."""

    async def find_message(self, lease: Lease, name: MessageName, after: int) -> Found:
        """The first unread message of a name behind a number; messages are counted before the mailbox is read."""

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Applies each advance whose run is still owned as it says; answers in order."""

    async def deliver(
        self, run_id: str, name: str, value: bytes, *, key: str | None, waiting_only: bool
    ) -> Delivered | None:
        """Puts a signal into the run's mailbox; None when there is no such run."""

    async def cancel(self, run_id: str) -> list[str] | None:
        """Cancels the run and its descendants that have not ended; their ids, or None when there is no such run."""

    async def enlist(self, worker_id: str, host: str, offer: Offer = NO_OFFER) -> HeartbeatConnection:
        """Registers a worker, alive from now on, with what it serves."""

    async def serve(self, worker_id: str, lanes: Sequence[int]) -> None:
        """Notes that a registered worker serves these lanes now."""

    async def retire(self, worker_id: str) -> None:
        """Removes a worker and frees what it still holds, without blame."""

    async def give_back(self, worker_id: str, tokens: Mapping[str, int], delay: int = 0) -> None:
        """Frees runs leased to the worker under these tokens that it does not drive; due after `delay`, no blame."""

    async def park_damaged(self, worker_id: str, lease: Lease, reason: str, judge: str) -> bool:
        """Gives back a run whose rows cannot be understood, due after a minute, or twice as long as the last time.

        Its status stays; `reason` and `judge`, the release and definition that judged, are kept until a commit finds
        that the run is understood. The delay grows up to an hour. False: the worker did not own it any more.
        """

    async def recheck_damaged(self, lanes: Sequence[int], judge: str) -> int:
        """Makes due at once the damaged runs of these lanes that another judge has parked; how many."""

    async def workers(self) -> list[WorkerRow]:
        """Everybody who is registered."""

    async def expire(self, worker_id: str, silent_for: int | None) -> int | None:
        """Removes a dead worker and frees its runs, counting the crash; `silent_for` is checked again, None: certain.

        The number of runs freed; None when it is alive after all, or was buried already.
        """

    async def sweep(self) -> int:
        """Makes due every run that should move but that nothing would move; how many."""
