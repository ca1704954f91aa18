"""The PostgreSQL store: each verb on one connection of a few, mostly in one statement."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stepwell.errors import Failure
from stepwell.store.codec import PLAIN
from stepwell.store.migrate import migrations_of
from stepwell.store.postgres import schema
from stepwell.store.postgres.commit import commit
from stepwell.store.postgres.connection import Connections, in_transaction
from stepwell.store.postgres.heartbeat import PostgresHeartbeat
from stepwell.store.postgres.location import location_of
from stepwell.store.postgres.notifier import Notifier
from stepwell.store.postgres.opening import Connection, Opener
from stepwell.store.postgres.reader import PostgresReader
from stepwell.store.postgres.signals import Signal, Signals
from stepwell.store.postgres.sql import NOW, Queries, columns, is_id
from stepwell.store.records import (
    CLAIM_BYTES,
    LOAD_BYTES,
    NO_OFFER,
    Advance,
    Changes,
    Claimed,
    Definition,
    Delivered,
    Found,
    History,
    Lease,
    NewRun,
    Offer,
    Started,
    Verdict,
    Wanted,
    WorkerRow,
)
from stepwell.store.refusals import UnknownLaneError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepwell.core.mailbox import MessageName
    from stepwell.core.statuses import Status
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.codec import Codec
    from stepwell.store.protocol import HeartbeatConnection

_TreeChange: TypeAlias = Callable[["Connection", str], Awaitable[list[str] | None]]
"""What is done to a run and its descendants in one transaction; gives the ids of those that it changed."""


class PostgresStore:
    """Keeps runs in one schema of a database that many hosts share."""

    shared = True
    sees_death = False
    latest: int = len(migrations_of(Path(__file__).parent))

    def __init__(self, url: str, runtime: Runtime, codec: Codec = PLAIN) -> None:
        self.url = url
        self.codec = codec
        self._location = location_of(url)
        self._q = Queries(self._location.schema, runtime.sql_now or NOW)
        self._opener = Opener(self._location, runtime)
        self._loop: asyncio.AbstractEventLoop
        self._connections: Connections
        self._notifier: Notifier
        self._reader: PostgresReader
        self._signals: Signals

    async def open(self) -> None:
        """Connects; raises StoreUnavailableError, or SchemaError when the tables are not this version's."""
        version, missing = await self.schema()
        if missing or version > self.latest:
            raise schema.wrong_version(self._location, version)
        self._loop = asyncio.get_running_loop()
        self._notifier = Notifier(self._opener)
        self._connections = Connections(self._opener, self._notifier.give_up)
        self._reader = PostgresReader(self._connections, self._notifier, self._q, self.codec)
        self._signals = Signals(self._connections, self._q)

    @property
    def reader(self) -> PostgresReader:
        """What the edges read."""
        return self._reader

    async def close(self) -> None:
        """Disconnects."""
        try:
            await self._notifier.close()
            await self._connections.close()
        except BaseException:
            self._notifier.terminate()
            self._connections.terminate()
            raise

    async def migrate(self) -> None:
        """Creates or upgrades the tables; other processes may do the same at the same time."""
        await schema.migrate(self._opener, self._q)

    async def schema(self) -> tuple[int, tuple[str, ...]]:
        """The stored schema version, and the names of the migrations it lacks."""
        return await schema.describe(self._opener, self._q)

    def statements(self, after: int) -> list[str]:
        """What `migrate` runs on tables of that version, in order; connects to nothing."""
        return schema.statements(self._location, self._q, after)

    async def define(self, definitions: Sequence[Definition]) -> list[int]:
        """The lanes' numbers, in order; unknown ones are stored with their definitions."""
        wanted = columns([tuple(one.lane) for one in definitions], 3)

        async def work(connection: Connection) -> list[int]:
            found = [lane for (lane,) in await connection.fetch(*self._q("find_lane", wanted=wanted))]
            if None in found:
                new = [*wanted, [one.outline for one in definitions]]
                await connection.execute(*self._q("add_lane", new=new))
                found = [lane for (lane,) in await connection.fetch(*self._q("find_lane", wanted=wanted))]
            return found

        return await self._connections.run(work)

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """Writes runs and makes them due, all or none; of a known key gives the first run."""
        ordered = sorted(runs, key=lambda run: (run.workflow, run.key or ""))
        new = [
            (run.run_id, run.lane, run.workflow, run.key, run.delay, run.parent_id, run.parent_node, run.value)
            for run in ordered
        ]
        keys = [(run.workflow, run.key, run.run_id) for run in ordered if run.key is not None]

        async def work(connection: Connection) -> list[Started]:
            if await connection.fetchval(*self._q("add_runs", n=columns(new, 8))):
                raise UnknownLaneError
            if not keys:
                return [Started(run.run_id, "pending") for run in runs]
            stored = await connection.fetch(*self._q("find_key", wanted=columns(keys, 3)))
            known = {run_id: Started(*first) for run_id, *first in stored}
            return [Started(run.run_id, "pending") if run.key is None else known[run.run_id] for run in runs]

        started = await self._connections.run(work)
        self._tell_due(run.lane for run in runs)
        return started

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
        """Leases up to `limit` due runs of these lanes, as many as their inputs' bytes allow."""
        room = {"limit": limit, "suspects": min(suspects, limit), "worst": worst, "timers_first": timers_first}
        asked = self._q("claim", worker=worker_id, lanes=lanes, most_bytes=most_bytes, **room)
        found = await self._connections.fetch(*asked)
        alive, now, next_due = found[0]["alive"], found[0]["now"], found[0]["next_due"]
        leases = [_lease(*facts) for _, _, _, _, *facts in found if facts[0] is not None]
        if leases:
            return Claimed(leases, now, 0, cut=found[0]["cut"])
        return Claimed([], now, None if next_due is None else next_due - now, alive)

    async def load(self, wanted: Sequence[Wanted], most_bytes: int = LOAD_BYTES) -> Mapping[str, History]:
        """The past of the first of these claimed runs, as many as the bytes allow."""
        return await self._reader.load(wanted, most_bytes)

    async def find_messages(self, lease: Lease, after: Mapping[MessageName, int]) -> Found:
        """The first unread message of a name behind a number."""
        return await self._reader.find_messages(lease, after)

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Applies each advance whose run is still owned as it says; answers in order."""
        verdicts, due = await self._connections.run(
            lambda connection: commit(connection, self._q, self.codec, worker_id, advances), blames_rows=True
        )
        ended = any(one.ended for one in advances)
        if due or ended:
            self._notifier.notify(Changes(due, ended))
        return verdicts

    async def deliver(
        self, run_id: str, name: str, value: bytes, *, key: str | None, waiting_only: bool, receipt: bytes | None = None
    ) -> Delivered | None:
        """Puts a signal into the run's mailbox; None when there is no such run."""
        if not is_id(run_id):
            return None
        delivered = await self._signals.deliver(Signal(run_id, name, value, key, waiting_only, receipt))
        if delivered is not None and delivered.woken:
            self._tell_due([delivered.lane])
        return delivered

    async def cancel(self, run_id: str) -> list[str] | None:
        """Cancels the run and its descendants that have not ended; their ids, or None when there is no such run."""
        return await self._of_tree(run_id, self._cancel)

    async def request_cancel(self, run_id: str) -> list[str] | None:
        """Notes that the run and its descendants that have not ended are to be undone, and canceled then."""
        return await self._of_tree(run_id, self._request_cancel)

    async def _of_tree(self, run_id: str, change: _TreeChange) -> list[str] | None:
        """Makes the change in a transaction of its own, again as long as the tree grows meanwhile."""
        if not is_id(run_id):
            return None
        while True:
            try:
                changed = await self._connections.run(
                    lambda connection: change(connection, run_id), in_transaction, waits=True
                )
            except _GrownError:
                continue
            if changed:
                self._notifier.notify()
            return changed

    async def enlist(self, worker_id: str, host: str, offer: Offer = NO_OFFER) -> HeartbeatConnection:
        """Registers a worker, alive from now on, with what it serves."""
        row = {"worker": worker_id, "host": host, "pid": os.getpid(), **offer._asdict(), "lanes": list(offer.lanes)}
        await self._connections.fetch(*self._q("enlist", **row))
        return PostgresHeartbeat(self._opener, self._q, worker_id, self._make_room)

    async def serve(self, worker_id: str, lanes: Sequence[int]) -> None:
        """Notes that a registered worker serves these lanes now."""
        await self._connections.fetch(*self._q("serve", worker=worker_id, lanes=list(lanes)))

    async def retire(self, worker_id: str) -> None:
        """Removes a worker and frees what it still holds, without blame.

        Two statements: the second sees what a claim has leased that the first one waited for. A process that
        dies between them leaves runs of a worker that is not registered, which the next expire_dead frees.
        """
        await self._connections.fetch(*self._q("delete_worker", worker=worker_id))
        await self._connections.fetch(*self._q("free_runs", worker=worker_id))
        self._notifier.notify()

    async def give_back(self, worker_id: str, tokens: Mapping[str, int], delay: int = 0) -> None:
        """Frees runs leased to the worker under these tokens that it does not drive; due after `delay`, no blame."""
        named = columns([(run_id, token) for run_id, token in tokens.items() if is_id(run_id)], 2)
        await self._connections.fetch(*self._q("give_back", worker=worker_id, named=named, delay=delay))
        self._notifier.notify()

    async def park_damaged(self, worker_id: str, lease: Lease, reason: str, validator: str) -> int:
        """Gives back a run whose rows cannot be understood, due after a minute, or twice as long as the last time."""
        named = {
            "worker": worker_id,
            "run_id": lease.run_id,
            "token": lease.token,
            "reason": reason,
            "validator": validator,
        }
        return sum([times for (times,) in await self._connections.fetch(*self._q("park_damaged", **named))])

    async def recheck_damaged(self, lanes: Sequence[int], validator: str) -> int:
        """Makes due at once the damaged runs of these lanes that another validator has parked; how many."""
        woken = len(await self._connections.fetch(*self._q("recheck_damaged", lanes=list(lanes), validator=validator)))
        if woken:
            self._tell_due(lanes)
        return woken

    async def workers(self) -> list[WorkerRow]:
        """Every registered worker; with `dead` set, also each that holds runs without being registered."""
        found = await self._connections.fetch(*self._q("list_workers"))
        return [WorkerRow._make((*each[:6], Offer._make(each[6:]))) for each in map(tuple, found)]

    async def expire(self, worker_id: str, silent_for: int | None) -> int | None:
        """Removes a dead worker and frees its runs, counting the crash; None: it is alive, or was gone already."""
        ((gone, freed),) = await self._connections.fetch(
            *self._q("free_crashed", worker=worker_id, silent_for=silent_for)
        )
        if not gone and silent_for is None:
            # a worker that is not registered has left or was declared dead: runs that were locked then are not to blame
            freed = len(await self._connections.fetch(*self._q("free_runs", worker=worker_id)))
        if freed:
            self._notifier.notify()
        return freed if gone or freed else None

    async def sweep(self) -> int:
        """Makes due every run that should move but that nothing would move; how many."""
        orphans = await self._connections.fetch(*self._q("sweep_orphans"))
        stranded = await self._connections.fetch(*self._q("sweep_stranded"))
        woken = len(orphans) + len(stranded)
        if woken:
            self._notifier.notify()
        return woken

    def _tell_due(self, lanes: Iterable[int]) -> None:
        self._notifier.notify(Changes(frozenset(lanes), ended=False))

    def _make_room(self) -> None:
        """Gives up a connection for a beat, which calls in its own thread: notifications are the first to go."""
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(lambda: self._notifier.give_up() or self._connections.give_one_up())

    async def _cancel(self, connection: Connection, run_id: str) -> list[str] | None:
        parent = await connection.fetchrow(*self._q("parent_of", run_id=run_id))
        if parent is None:
            return None
        parent_id, parent_node = parent
        ids = await self._locked_tree(connection, run_id, parent_id)
        if not ids:
            return []
        await connection.execute(*self._q("cancel", ids=ids))
        if run_id in ids and parent_id is not None:
            n = await connection.fetchval(*self._q("tell_parent", run_id=parent_id))
            if n is not None:
                error = self.codec.encode_failure(Failure(parent_node, "ChildCanceled", f"run {run_id} was canceled"))
                message = {"run_id": parent_id, "n": n, "kind": "child", "name": parent_node, "sender": run_id}
                await connection.execute(*self._q("add_message", **message, value=None, error=error, key=None))
        return ids

    async def _request_cancel(self, connection: Connection, run_id: str) -> list[str] | None:
        if await connection.fetchrow(*self._q("parent_of", run_id=run_id)) is None:
            return None
        ids = await self._locked_tree(connection, run_id, None)
        return [found for (found,) in await connection.fetch(*self._q("request_cancel", ids=ids))]

    async def _locked_tree(self, connection: Connection, run_id: str, parent_id: str | None) -> list[str]:
        """The run and its descendants that have not ended, locked, and its parent; raises _GrownError."""
        find_tree = self._q("find_tree", run_id=run_id)
        before = {found for (found,) in await connection.fetch(*find_tree)}
        if not before:
            return []
        await connection.fetch(*self._q("lock_tree", ids=[*before, *([parent_id] if parent_id else [])]))
        ids = [found for (found,) in await connection.fetch(*find_tree)]
        if not before.issuperset(ids):
            raise _GrownError
        return ids


class _GrownError(Exception):
    """The tree grew while its runs were being locked; the transaction is to be rolled back and repeated."""


def _lease(  # noqa: PLR0917  the columns of the claim
    run_id: str, token: int, seq: int, messages: int, crashes: int, lane: int, position: int, status: Status, *rest: Any
) -> Lease:
    *others, asked, value = rest
    held = (token, seq, messages, crashes, lane, position, status)
    # an input that is gone: the worker that claimed the run reports it
    return Lease._make((run_id, 0, *held, *others, value or b"", asked))
