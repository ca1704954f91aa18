"""Both real stores under one clock, asked the same thing at once; what they answer, in one form; no test lives here."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.core.mailbox import MessageName
from stepwell.store.postgres.sql import pairs
from stepwell.store.postgres.store import PostgresStore
from stepwell.store.records import Definition, Filter, Lane, Wanted, awaited_in
from stepwell.store.sqlite.store import SqliteStore
from tests.mailboxes import unread_of
from tests.model.calls import LANES, NAMES
from tests.moving_clock import MovingClock
from tests.postgres import execute, moved_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from stepwell.core.mailbox import Message
    from stepwell.store.protocol import HeartbeatConnection, Store
    from stepwell.store.records import Lease, NewRun

EVERY = 1_000
MESSAGES = [*(MessageName("signal", name) for name in NAMES), MessageName("child", "child")]


class Kept:
    """One store, with what it gave out: leases by run and token, and the heartbeat connections of its workers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lanes: list[int] = []
        self.leases: dict[tuple[str, int], Lease] = {}
        self.heartbeat_connections: dict[str, HeartbeatConnection] = {}

    async def begin(self) -> None:
        """Opens a new, empty store in which the lanes are known."""
        await self.store.migrate()
        await self.store.open()
        definitions = [Definition(Lane("durable", "order", f"v{lane}"), b'{"nodes":[]}') for lane in range(LANES)]
        self.lanes = await self.store.define(definitions)

    async def start(self, runs: list[NewRun]) -> list[tuple[str, str]]:
        """The run of each, and its status."""
        new = [run._replace(lane=self.lanes[run.lane]) for run in runs]
        return [(one.run_id, one.status) for one in await self.store.start(new)]

    async def claim(self, worker: str, lane: int, limit: int, suspects: int) -> tuple[bool, Any, Any]:
        """What the model's claim gives; the leases are kept."""
        claimed = await self.store.claim(worker, [self.lanes[lane]], limit, suspects)
        told = {}
        for lease in claimed.leases:
            self.leases[lease.run_id, lease.token] = lease
            waits = (lease.wake_at, lease.parked_at, lease.cancel_requested_at)
            known = (lease.token, lease.seq, lease.messages, lease.crashes, lease.status, waits, lease.parent_id)
            told[lease.run_id] = (*known, lease.value)
        return claimed.alive, told if claimed.alive else [], claimed.next_due_in if claimed.alive else None

    async def enlist(self, worker: str) -> None:
        """Registers a worker."""
        self.heartbeat_connections[worker] = await self.store.enlist(worker, "here")

    async def beat(self, worker: str) -> dict[str, int] | None:
        """The runs that the worker holds; None when it was buried."""
        return self.heartbeat_connections[worker].beat()

    async def deliver(self, run_id: str, name: str, key: str | None, *, waiting_only: bool) -> tuple[bool, str, bool]:
        """What the model's signal gives."""
        delivered = await self.store.deliver(run_id, name, b"3", key=key, waiting_only=waiting_only)
        assert delivered is not None
        return delivered.accepted, delivered.status, delivered.woken

    async def cancel(self, run_id: str) -> set[str]:
        """The runs of the tree that had not ended."""
        return set(await self.store.cancel(run_id) or [])

    async def request_cancel(self, run_id: str) -> set[str]:
        """The runs of the tree that are to be undone and canceled from now on."""
        return set(await self.store.request_cancel(run_id) or [])

    async def seen(self, run_ids: list[str], workers: Collection[str]) -> dict[str, Any]:
        """All that is stored, as far as it can be read."""
        runs = (await self.store.reader.page(Filter(None, None, None, None, EVERY, None))).runs
        journals = {run_id: await self.store.reader.journal(run_id) or [] for run_id in run_ids}
        leases = {one.run_id: one for one in self.leases.values() if one.run_id in run_ids}
        counts = {
            run_id: (await self.store.load([Wanted(one)]))[run_id].found.messages for run_id, one in leases.items()
        }
        return {
            "runs": {
                one.run_id: (
                    *(one.status, one.position, awaited_in(one.awaiting), one.wake_at, one.key),
                    one.cancel_requested_at,
                )
                for one in runs
            },
            "journals": {run_id: [(row.seq, row.node) for row in rows] for run_id, rows in journals.items()},
            "message": {
                run_id: (counts[run_id], [(one.n, one.name, one.value) for one in await self._unread(lease)])
                for run_id, lease in leases.items()
            },
            "leased": {worker: dict((await self.store.reader.leased(worker)).tokens) for worker in workers},
            "workers": {(row.worker_id, row.beat) for row in await self.store.workers() if row.host},
        }

    async def turns(self) -> dict[str, int]:
        """The turns of the runs that are due at once; of two calls at once either may have been given the first."""
        assert isinstance(self.store, PostgresStore)
        due = f'SELECT id::text, due_at FROM "{self.store._location.schema}".runs WHERE worker IS NULL AND due_at <= 0'
        return pairs(await self.store._connections.fetch(due))

    async def _unread(self, lease: Lease) -> list[Message]:
        return await unread_of(self.store, lease, MESSAGES)

    async def end(self) -> None:
        """Disconnects."""
        for heartbeat_connection in self.heartbeat_connections.values():
            heartbeat_connection.close()
        await self.store.close()


class Stores:
    """An event loop of its own with a SQLite file and a PostgreSQL schema, or one of them; asked by turns."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.clock = MovingClock()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory(prefix="stepwell-model-")
        self._kept: dict[str, Kept] = {}
        file = Path(self._folder.name) / "store.db"
        for kind in kinds:
            store = (
                moved_store(file, self.clock) if kind == "postgres" else SqliteStore(f"sqlite:///{file}", self.clock)
            )
            self._kept[kind] = Kept(store)
            self._run(self._kept[kind].begin())

    def ask(self, question: Callable[[Kept], Awaitable[Any]]) -> Any:
        """The one answer of all stores."""
        answers = {name: self._run(question(kept)) for name, kept in self._kept.items()}
        first, *others = answers.values()
        assert all(other == first for other in others), answers
        return first

    def end(self) -> None:
        """Removes what was made."""
        for kept in self._kept.values():
            self._run(kept.end())
        schema = self._kept["postgres"].store.url.rpartition("=")[2]
        execute(f'DROP SCHEMA "{schema}" CASCADE')
        self._runner.close()
        self._folder.cleanup()

    def _run(self, work: Awaitable[Any]) -> Any:
        async def whole() -> Any:
            return await work

        return self._runner.run(whole())
