"""Short words for the tests of stores: starting, claiming, advancing runs by the protocol alone; no test lives here."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from stepwell.core.journal import JournalRow
from stepwell.core.mailbox import MessageName
from stepwell.errors import Failure
from stepwell.store.postgres.store import PostgresStore
from stepwell.store.records import Advance, ChildEnd, Definition, Filter, Lane, NewRun
from stepwell.store.sqlite.store import SqliteStore
from tests.mailboxes import unread_of
from tests.postgres import moved_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from stepwell.store.protocol import HeartbeatConnection, Store
    from stepwell.store.records import Lease, Page, RunRow, Snapshot, Verdict
    from tests.moving_clock import MovingClock

EVERY = 1_000
"""A limit that no test reaches."""
OUTLINE = b'{"nodes":[]}'


@dataclass(frozen=True)
class StoreKind:
    """How one is made in a folder, and another on its URL; and what its driver raises for a row it cannot keep."""

    make: Callable[[Path, MovingClock], Store]
    beside: Callable[[str, MovingClock], Store]
    refusals: tuple[type[Exception], ...]


KINDS = {
    "sqlite-memory": StoreKind(
        lambda folder, clock: SqliteStore("sqlite://", clock), SqliteStore, (sqlite3.IntegrityError,)
    ),
    "sqlite-file": StoreKind(
        lambda folder, clock: SqliteStore(f"sqlite:///{folder / 'store.db'}", clock),
        SqliteStore,
        (sqlite3.IntegrityError,),
    ),
    "postgres": StoreKind(moved_store, PostgresStore, (asyncpg.exceptions.IntegrityConstraintViolationError,)),
}
"""Every store, by name."""
SHARED_KINDS = ("sqlite-file", "postgres")
"""Those that several processes can open at once."""


def row(lease: Lease, seq: int | None = None, **changes: Any) -> JournalRow:
    """The row that follows what the lease knows: the outcome of a step that is named by its place."""
    place = lease.seq + 1 if seq is None else seq
    plain = JournalRow(
        lease.ref, place, f"step{place}", "", "do", 0, "step", 1, "completed", b"1", None, None, None, 10, 20, "someone"
    )
    return plain._replace(**changes)


def advance(lease: Lease, *rows: JournalRow, **changes: Any) -> Advance:
    """An advance of a claimed run; without changes it only adds the rows, and the run stays with its worker."""
    one = Advance(lease.run_id, lease.ref, lease.token, lease.seq, rows, lease.seq + len(rows), "running")
    for name, value in changes.items():
        assert hasattr(one, name), name
        setattr(one, name, value)
    return one


def step(lease: Lease, *, lean: bool = False) -> Advance:
    """An advance by one completed step; the run stays with its worker."""
    return advance(lease, row(lease), lean=lean)


def usual(lease: Lease, worker: str = "ann", *, node: str = "step1", ends: bool = False) -> Advance:
    """A completed step by its worker, after which the run stays there or is over."""
    one = row(lease, worker=worker, node=node)
    if ends:
        return advance(lease, one, usual=True, release=True, ended=True, status="completed")
    return advance(lease, one, usual=True, lean=True)


def parked(lease: Lease, *rows: JournalRow, **changes: Any) -> Advance:
    """An advance that lets go of the run, which then waits for a child, or as the changes say."""
    return advance(lease, *rows, **{"release": True, "status": "suspended", "parked_at": 1, **changes})


def awaiting(lease: Lease, *names: str, seen: int | None = None, due_at: int | None = None, **more: Any) -> Advance:
    """An advance by which the run waits for signals."""
    seen = lease.messages if seen is None else seen
    absent = [MessageName("signal", name) for name in names]
    return parked(lease, awaiting=names, absent=absent, seen=seen, due_at=due_at, wake_at=due_at, **more)


def awaiting_child(lease: Lease, *rows: JournalRow, node: str = "child", seen: int = 0) -> Advance:
    """An advance by which the run waits for the end of a child."""
    return parked(lease, *rows, absent=(MessageName("child", node),), seen=seen)


def timed_out(lease: Lease, name: str, *, seen: int | None = None) -> Advance:
    """An advance by which the wait for a signal has failed; the run stays with its worker."""
    failure = row(lease, status="failed", value=None, error=Failure("wait", "SignalTimeout", "none came"))
    seen = lease.messages if seen is None else seen
    return advance(lease, failure, absent=(MessageName("signal", name),), seen=seen)


def ended(lease: Lease, *rows: JournalRow, status: str = "completed", child_end: ChildEnd | None = None) -> Advance:
    """An advance by which the run ends."""
    return advance(lease, *rows, release=True, ended=True, status=status, child_end=child_end)


def grown(lease: Lease, rows: int = 1) -> Lease:
    """The lease as its worker knows it after a commit of so many rows."""
    return lease._replace(seq=lease.seq + rows)


def end_of_child(parent: Lease, node: str = "child", error: Failure | None = None) -> ChildEnd:
    """The message by which a child tells its parent."""
    return ChildEnd(parent.run_id, node, None if error else b'{"made":1}', error)


class Keeper:
    """An open store with lanes, workers and runs to be made in a word."""

    def __init__(self, store: Store, clock: MovingClock, kind: StoreKind) -> None:
        self.store = store
        self.clock = clock
        self.refusals = kind.refusals
        self._kind = kind
        self.heartbeat_connections: dict[str, HeartbeatConnection] = {}

    def beside(self, clock: MovingClock) -> Store:
        """The same store as another process sees it, not open."""
        return self._kind.beside(self.store.url, clock)

    async def lane(self, workflow: str = "order", queue: str = "durable", fingerprint: str = "v1") -> int:
        """The number of a lane."""
        (number,) = await self.store.define([Definition(Lane(queue, workflow, fingerprint), OUTLINE)])
        return number

    async def new(self, *, workflow: str = "order", **facts: Any) -> NewRun:
        """A run to be started, with an id of its own."""
        lane = await self.lane(workflow)
        return NewRun(**{"run_id": self.clock.new_id(), "lane": lane, "workflow": workflow, "value": b"{}", **facts})

    async def start(self, **facts: Any) -> str:
        """A started run's id."""
        (started,) = await self.store.start([await self.new(**facts)])
        return started.run_id

    async def worker(self, worker_id: str = "ann", host: str = "here") -> str:
        """An enlisted worker's id."""
        self.heartbeat_connections[worker_id] = await self.store.enlist(worker_id, host)
        return worker_id

    async def claim(
        self, worker_id: str = "ann", *, limit: int = EVERY, suspects: int = EVERY, workflow: str = "order"
    ) -> list[Lease]:
        """The leases of one claim, by a worker that is enlisted if need be."""
        if worker_id not in self.heartbeat_connections:
            await self.worker(worker_id)
        lanes = [await self.lane(workflow)]
        return (await self.store.claim(worker_id, lanes, limit, suspects)).leases

    async def leased(self, worker_id: str = "ann", **facts: Any) -> Lease:
        """A run that was just started and claimed, when no other is due."""
        run_id = await self.start(**facts)
        (lease,) = await self.claim(worker_id, workflow=facts.get("workflow", "order"))
        assert lease.run_id == run_id
        return lease

    async def commit(self, *advances: Advance, worker_id: str = "ann") -> list[Verdict]:
        """The verdicts on one batch."""
        return await self.store.commit(worker_id, advances)

    async def crash(self, *worker_ids: str) -> None:
        """Workers die and are buried at once."""
        for worker_id in worker_ids:
            await self.store.expire(worker_id, None)
            self.heartbeat_connections.pop(worker_id).close()

    async def snapshot(self, run_id: str) -> Snapshot:
        """A stored run with its journal and children."""
        found = await self.store.reader.snapshot(run_id)
        assert found is not None
        return found

    async def stored(self, run_id: str) -> RunRow:
        """A run as it is stored."""
        return (await self.snapshot(run_id)).run

    async def nodes(self, run_id: str) -> list[str]:
        """The nodes of the run's journal, in order."""
        return [each.node for each in await self.store.reader.journal(run_id) or []]

    async def messages(self, lease: Lease) -> list[tuple[int, str, bytes | None]]:
        """The run's unread messages: number, name and value."""
        return [(one.n, one.name, one.value) for one in await unread_of(self.store, lease)]

    async def signal(self, run_id: str, name: str = "go", value: bytes = b"1", *, key: str | None = None) -> bool:
        """Whether a signal was accepted, by a run that may not wait for it yet."""
        answer = await self.store.deliver(run_id, name, value, key=key, waiting_only=False)
        assert answer is not None
        return answer.accepted

    async def resume(self, run_id: str, name: str = "go", value: bytes = b"1", *, key: str | None = None) -> bool:
        """Whether a signal was accepted, by a run that must wait for it."""
        answer = await self.store.deliver(run_id, name, value, key=key, waiting_only=True)
        assert answer is not None
        return answer.accepted

    async def page(self, **wanted: Any) -> Page:
        """A page of runs."""
        return await self.store.reader.page(Filter(None, None, None, None, EVERY, None)._replace(**wanted))

    async def listed(self, **wanted: Any) -> list[str]:
        """The ids of a page of runs."""
        return [each.run_id for each in (await self.page(**wanted)).runs]


def ids(leases: Sequence[Lease]) -> list[str]:
    """The runs of leases, in order."""
    return [lease.run_id for lease in leases]


@asynccontextmanager
async def opened(store: Store, clock: MovingClock, kind: StoreKind) -> AsyncIterator[Keeper]:
    """A keeper of the store, which has its tables and is open meanwhile."""
    await store.migrate()
    await store.open()
    keeper = Keeper(store, clock, kind)
    try:
        yield keeper
    finally:
        for heartbeat_connection in keeper.heartbeat_connections.values():
            heartbeat_connection.close()
        await store.close()
