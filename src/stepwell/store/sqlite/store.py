"""The SQLite store: every verb of the protocol as one transaction on the writer's connection."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from stepwell.errors import StoreUnavailableError
from stepwell.store.codec import PLAIN
from stepwell.store.records import (
    CLAIM_BYTES,
    LOAD_BYTES,
    NO_OFFER,
    Advance,
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
from stepwell.store.sqlite.claim import Room, claim_due
from stepwell.store.sqlite.commit import MismatchError, add_runs, commit_judging, commit_trusting
from stepwell.store.sqlite.connection import PRIVATE, connect, location_of
from stepwell.store.sqlite.heartbeat import FileHeartbeat, MemoryHeartbeat
from stepwell.store.sqlite.locks import LockFile
from stepwell.store.sqlite.messages import Signal, cancel, deliver, request_cancel
from stepwell.store.sqlite.reader import SqliteReader
from stepwell.store.sqlite.schema import (
    LATEST,
    describe,
    describe_file,
    migrate_file,
    migrate_memory,
    statements,
    wrong_version,
)
from stepwell.store.sqlite.sql import Q, as_json, from_json, next_turn
from stepwell.store.sqlite.transaction_queue import InCaller, InThread, OpenedLate, TransactionQueue, in_thread

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from stepwell.core.mailbox import MessageName
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.codec import Codec
    from stepwell.store.protocol import HeartbeatConnection
    from stepwell.store.sqlite.connection import Location
    from stepwell.store.sqlite.guard import Identity


class SqliteStore:
    """Keeps runs in a file, or in memory, where no other process can reach them."""

    sees_death = True

    def __init__(
        self,
        url: str,
        runtime: Runtime,
        codec: Codec = PLAIN,
        *,
        permissions: int = PRIVATE,
        location: Location | None = None,
    ) -> None:
        self.url = url
        self.codec = codec
        self._location = location_of(url, permissions) if location is None else location
        self.shared: bool = self._location.path is not None
        self.latest = LATEST
        self._runtime = runtime
        self._writer: TransactionQueue
        self._reading: TransactionQueue
        self._looking: TransactionQueue
        self._reader: SqliteReader
        self._identity: Identity | None = None
        self._memory: sqlite3.Connection | None = None
        self._locks: dict[str, LockFile] = {}

    def existing(self, *, read_only: bool) -> SqliteStore:
        """Another store on the same file, whatever folder this process is in now, that does not create it."""
        location = self._location._replace(create=False, read_only=read_only or self._location.read_only)
        return SqliteStore(self.url, self._runtime, self.codec, location=location)

    def again(self) -> SqliteStore:
        """Another store on the same file, with the same options."""
        return SqliteStore(self.url, self._runtime, self.codec, location=self._location)

    async def open(self) -> None:
        """Connects; raises StoreUnavailableError, or SchemaError when the tables are not this version's."""
        if self.shared:
            version, missing = await self.schema()
            if missing or version > LATEST:
                raise wrong_version(self._location, version)
            writer = InThread(self._location, self._runtime, write=not self._location.read_only)
            self._writer, self._identity = writer, writer.identity
            try:
                self._reading = writer.beside()
            except BaseException:
                await writer.close()
                raise
            # those who look at runs do not make workers wait, who load runs through a reader of their own
            self._looking = OpenedLate(self._location, writer.beside)
        else:
            self._writer = self._reading = self._looking = InCaller(self._location, self._in_memory())
        self._reader = SqliteReader(self._reading, self._looking, self._runtime.wall, self.codec, shared=self.shared)

    @property
    def reader(self) -> SqliteReader:
        """What the edges read."""
        return self._reader

    async def close(self) -> None:
        """Disconnects; the writer last, since only a connection that may write removes the write-ahead log."""
        async with AsyncExitStack() as stack:
            for lock in self._locks.values():
                stack.callback(lock.release)
            for turns in (self._writer, self._reading, self._looking):
                stack.push_async_callback(turns.close)
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    async def migrate(self) -> None:
        """Creates or upgrades the tables; other processes may do the same at the same time."""
        if self.shared:
            await in_thread(
                self._runtime, partial(migrate_file, self._location, self._runtime), "stepwell-sqlite-migrate"
            )
        else:
            migrate_memory(self._in_memory(), self._location, self._runtime)

    async def schema(self) -> tuple[int, tuple[str, ...]]:
        """The stored schema version, and the names of the migrations it lacks."""
        return describe_file(self._location, self._runtime) if self.shared else describe(self._in_memory())

    def statements(self, after: int) -> list[str]:
        """What `migrate` runs on tables of that version, in order; connects to nothing."""
        return statements(after)

    async def define(self, definitions: Sequence[Definition]) -> list[int]:
        """The lanes' numbers, in order; unknown ones are stored with their definitions."""

        def read(connection: sqlite3.Connection) -> list[int | None]:
            found = (connection.execute(Q["find_lane"], one.lane._asdict()).fetchone() for one in definitions)
            return [lane and lane[0] for lane in found]

        def write(connection: sqlite3.Connection) -> list[int]:
            lanes = []
            for definition in definitions:
                lane = definition.lane._asdict()
                found = connection.execute(Q["find_lane"], lane).fetchone()
                found = found or connection.execute(Q["add_lane"], {**lane, "outline": definition.outline}).fetchone()
                lanes.append(found[0])
            return lanes

        known = await self._reading.run(read)
        stored = [lane for lane in known if lane is not None]
        return stored if len(stored) == len(known) else await self._writer.run(write)

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """Writes runs and makes them due, all or none; of a known key gives the first run."""

        def write(connection: sqlite3.Connection) -> list[Started]:
            for lane, workflow in {(run.lane, run.workflow) for run in runs}:
                if connection.execute(Q["has_lane"], {"lane": lane, "workflow": workflow}).fetchone() is None:
                    raise UnknownLaneError
            known: dict[tuple[str, str], Started] = {}
            new: list[NewRun] = []
            answers: list[Started] = []
            for run in runs:
                answer = None
                if run.key is not None:
                    name = (run.workflow, run.key)
                    asked = {"workflow": run.workflow, "key": run.key}
                    found = known.get(name) or connection.execute(Q["find_key"], asked).fetchone()
                    answer = Started(*found) if found else Started(run.run_id, "pending", run.value)
                    known[name] = answer
                if answer is None or answer.run_id == run.run_id:
                    new.append(run)
                    answer = Started(run.run_id, "pending" if answer is None else answer.status)
                answers.append(answer)
            add_runs(connection, self._runtime.wall(), new, next_turn(connection))
            return answers

        return await self._writer.run(write)

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
        room = Room(limit, suspects, worst, timers_first, most_bytes)

        def write(connection: sqlite3.Connection) -> Claimed:
            return claim_due(connection, self._runtime.wall(), worker_id, lanes, room)

        return await self._writer.run(write)

    async def load(self, wanted: Sequence[Wanted], most_bytes: int = LOAD_BYTES) -> Mapping[str, History]:
        """The past of the first of these claimed runs, as many as the bytes allow."""
        return await self._reader.load(wanted, most_bytes)

    async def find_messages(self, lease: Lease, after: Mapping[MessageName, int]) -> Found:
        """The first unread message of each name behind its number."""
        return await self._reader.find_messages(lease, after)

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Applies each advance whose run is still owned as it says; answers in order."""

        def trusting(connection: sqlite3.Connection) -> list[Verdict]:
            return commit_trusting(connection, self.codec, self._runtime.wall(), worker_id, advances)

        def judging(connection: sqlite3.Connection) -> list[Verdict]:
            return commit_judging(connection, self.codec, self._runtime.wall(), worker_id, advances)

        try:
            return await self._writer.run(trusting, blames_rows=True)
        except MismatchError:
            return await self._writer.run(judging, blames_rows=True)

    async def deliver(
        self, run_id: str, name: str, value: bytes, *, key: str | None, waiting_only: bool, receipt: bytes | None = None
    ) -> Delivered | None:
        """Puts a signal into the run's mailbox; None when there is no such run."""
        signal = Signal(run_id, name, value, key, waiting_only, receipt)
        return await self._writer.run(lambda connection: deliver(connection, self._runtime.wall(), signal))

    async def cancel(self, run_id: str) -> list[str] | None:
        """Cancels the run and its descendants that have not ended; their ids, or None when there is no such run."""
        return await self._writer.run(lambda connection: cancel(connection, self.codec, self._runtime.wall(), run_id))

    async def request_cancel(self, run_id: str) -> list[str] | None:
        """Notes that the run and its descendants that have not ended are to be undone, and canceled then."""
        return await self._writer.run(lambda connection: request_cancel(connection, self._runtime.wall(), run_id))

    async def enlist(self, worker_id: str, host: str, offer: Offer = NO_OFFER) -> HeartbeatConnection:
        """Registers a worker, alive from now on, with what it serves."""
        row = {"id": worker_id, "host": host, "pid": os.getpid(), "process": self._runtime.process}
        row |= {"lanes": as_json(list(offer.lanes)), "concurrency": offer.concurrency, "lease": offer.lease}
        if self._location.path is None:
            await self._writer.run(lambda connection: _enlist(connection, row, self._runtime.wall()))
            return MemoryHeartbeat(self._in_memory(), worker_id)
        lock = LockFile(self._location.path, worker_id, self._location.permissions)
        try:
            lock.hold()
        except OSError as error:
            raise StoreUnavailableError(self.url, f"no lock file can be made beside it: {error}") from error
        self._locks[worker_id] = lock
        await self._writer.run(lambda connection: _enlist(connection, row, self._runtime.wall()))
        return FileHeartbeat(self._location, self._runtime, worker_id, self._identity)

    async def serve(self, worker_id: str, lanes: Sequence[int]) -> None:
        """Notes that a registered worker serves these lanes now."""
        served = {"id": worker_id, "lanes": as_json(list(lanes))}
        await self._writer.run(lambda connection: connection.execute(Q["serve"], served))

    async def retire(self, worker_id: str) -> None:
        """Removes a worker and frees what it still holds, without blame."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(Q["delete_worker"], {"worker": worker_id})
            connection.execute(Q["free_runs"], {"worker": worker_id, **self._now_and_turn(connection)})

        await self._writer.run(write)
        lock = self._locks.pop(worker_id, None)
        if lock is not None:
            lock.release()

    async def give_back(self, worker_id: str, tokens: Mapping[str, int], delay: int = 0) -> None:
        """Frees runs leased to the worker under these tokens that it does not drive; due after `delay`, no blame."""
        named = {"worker": worker_id, "tokens": as_json(dict(tokens)), "delay": delay}
        await self._writer.run(
            lambda connection: connection.execute(Q["give_back"], {**named, **self._now_and_turn(connection)})
        )

    async def park_damaged(self, worker_id: str, lease: Lease, reason: str, validator: str) -> int:
        """Gives back a run whose rows cannot be understood, due after a minute, or twice as long as the last time."""
        named = {"worker": worker_id, "ref": lease.ref, "token": lease.token, "reason": reason, "validator": validator}

        def write(connection: sqlite3.Connection) -> int:
            times = connection.execute(Q["park_damaged"], {**named, "now": self._runtime.wall()}).fetchone()
            return 0 if times is None else int(times[0])

        return await self._writer.run(write)

    async def recheck_damaged(self, lanes: Sequence[int], validator: str) -> int:
        """Makes due at once the damaged runs of these lanes that another validator has parked; how many."""
        named = {"lanes": as_json(list(lanes)), "validator": validator}

        def write(connection: sqlite3.Connection) -> int:
            return connection.execute(Q["recheck_damaged"], {**named, **self._now_and_turn(connection)}).rowcount

        return await self._writer.run(write)

    async def workers(self) -> list[WorkerRow]:
        """Every registered worker; `dead` are those whose process has ended, and holders that are not registered."""
        found = await self._reading.run(lambda connection: connection.execute(Q["list_workers"]).fetchall())
        now = self._runtime.wall()
        return [
            WorkerRow(
                worker_id,
                beat or 0,
                0 if beat is None else now - beat,
                host,
                pid,
                beat is None or self._is_dead(worker_id, process),
                Offer(_lanes(lanes), *rest),
            )
            for worker_id, beat, host, pid, process, lanes, *rest in found
        ]

    async def expire(self, worker_id: str, silent_for: int | None) -> int | None:
        """Removes a dead worker and frees its runs, counting the crash; None: it is alive, or was gone already."""

        def write(connection: sqlite3.Connection) -> int | None:
            now = self._runtime.wall()
            if silent_for is None:
                gone = connection.execute(Q["delete_worker"], {"worker": worker_id}).rowcount
            else:
                since = {"id": worker_id, "silent_since": now - silent_for}
                gone = connection.execute(Q["delete_silent_worker"], since).rowcount
            named = {"worker": worker_id, **self._now_and_turn(connection)}
            if gone:
                return connection.execute(Q["free_crashed"], named).rowcount
            if silent_for is None:
                # One that is not registered has left or was declared dead: what it still holds is not to blame for it.
                return connection.execute(Q["free_runs"], named).rowcount or None
            return None

        freed = await self._writer.run(write)
        if freed is not None and self._location.path is not None and worker_id not in self._locks:
            LockFile(self._location.path, worker_id, self._location.permissions).remove()
        return freed

    async def sweep(self) -> int:
        """Makes due every run that should move but that nothing would move; how many."""

        def write(connection: sqlite3.Connection) -> int:
            now = self._now_and_turn(connection)
            return sum(connection.execute(Q[name], now).rowcount for name in ("sweep_orphans", "sweep_stranded"))

        return await self._writer.run(write)

    def _now_and_turn(self, connection: sqlite3.Connection) -> dict[str, int]:
        return {"now": self._runtime.wall(), "turn": next_turn(connection)}

    def _is_dead(self, worker_id: str, process: str) -> bool:
        if self._location.path is None or process == self._runtime.process:
            return False
        return LockFile(self._location.path, worker_id, self._location.permissions).is_free()

    def _in_memory(self) -> sqlite3.Connection:
        if self._memory is None:
            self._memory = connect(self._location)
        return self._memory


def _lanes(text: str) -> list[int]:
    """The lanes that a worker's row names; none in a damaged one, which must not hide the others."""
    with suppress(ValueError):
        found = from_json(text)
        if isinstance(found, list):
            return found
    return []


def _enlist(connection: sqlite3.Connection, row: dict[str, object], now: int) -> None:
    connection.execute(Q["enlist"], {**row, "now": now})
