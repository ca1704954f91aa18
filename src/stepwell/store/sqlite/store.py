"""The SQLite store: every verb of the protocol as one transaction on the writer's connection."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.core.model import ENDED, Status
from stepwell.errors import Failure, SchemaError, StoreUnavailableError
from stepwell.store.migrate import migrations_of
from stepwell.store.protocol import (
    Advance,
    Claimed,
    Definition,
    Delivered,
    Heart,
    History,
    Lease,
    NewRun,
    Post,
    Started,
    Verdict,
    WorkerRow,
)
from stepwell.store.sqlite.commit import MismatchError, add_runs, commit_judging, commit_trusting, post
from stepwell.store.sqlite.connection import connect, in_transaction, is_data_error, is_there, location_of, unavailable
from stepwell.store.sqlite.heart import FileHeart, MemoryHeart
from stepwell.store.sqlite.locks import LockFile
from stepwell.store.sqlite.reader import SqliteReader
from stepwell.store.sqlite.sql import Q, as_json, from_json
from stepwell.store.sqlite.turns import Clock, InCaller, InThread, Turns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MIGRATIONS = migrations_of(Path(__file__).parent)
_SUSPECT_FROM = 2
_leases = msgspec.json.Decoder(
    list[tuple[str, int, int, int, int, int, int, str, int | None, str | None, int | None, str | None, str | None, str]]
).decode


class SqliteStore:
    """Keeps runs in a file, or in memory where nobody else can reach them."""

    sees_death = True

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self._location = location_of(url)
        self.shared = self._location.path is not None
        self.latest = len(_MIGRATIONS)
        self._clock = clock
        self._writer: Turns
        self._reading: Turns
        self._reader: SqliteReader
        self._memory: sqlite3.Connection | None = None
        self._locks: dict[str, LockFile] = {}

    async def open(self) -> None:
        """Connects; raises StoreUnavailableError, or SchemaError when the tables are not this version's."""
        if self.shared:
            version, missing = await self.schema()
            if missing or version > len(_MIGRATIONS):
                raise self._wrong_schema(version)
            self._writer = InThread(self._location, self._clock, write=not self._location.read_only)
            self._reading = InThread(self._location, self._clock, write=False)
        else:
            self._writer = self._reading = InCaller(self._location, self._in_memory())
        self._reader = SqliteReader(self._reading, shared=self.shared)

    @property
    def reader(self) -> SqliteReader:
        """What the edges read."""
        return self._reader

    async def close(self) -> None:
        """Disconnects."""
        await self._writer.close()
        await self._reading.close()
        for lock in self._locks.values():
            lock.release()
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    async def migrate(self) -> None:
        """Creates or upgrades the tables, whoever else does it at once."""
        if self.shared:
            await asyncio.get_running_loop().run_in_executor(None, self._migrate_file)
        else:
            self._upgrade(self._in_memory())

    async def schema(self) -> tuple[int, tuple[str, ...]]:
        """The stored schema version, and the names of the migrations it lacks."""
        if self._location.path is None:
            return self._describe(self._in_memory())
        if not is_there(self._location):
            if self._location.create and self._location.path.parent.is_dir():
                return 0, tuple(migration.name for migration in _MIGRATIONS)
            raise unavailable(self._location, sqlite3.OperationalError("unable to open: there is no such file"))
        connection = connect(self._location, read_only=True)
        try:
            return self._describe(connection)
        except sqlite3.Error as error:
            raise unavailable(self._location, error) from error
        finally:
            connection.close()

    def statements(self, after: int) -> list[str]:
        """What `migrate` runs on tables of that version, in order; connects to nothing."""
        scripts = []
        for migration in _MIGRATIONS[after:]:
            values = (str(migration.number), f"'{migration.name}'", "CAST(strftime('%s', 'now') AS INTEGER) * 1000000")
            recorded = Q["record_migration"].replace("?, ?, ?", ", ".join(values))
            scripts += [migration.sql, f"{recorded};\n"]
        return scripts

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
            known: dict[tuple[str, str], Started] = {}
            new: list[NewRun] = []
            answers: list[Started] = []
            for run in runs:
                answer = None
                if run.key is not None:
                    name = (run.workflow, run.key)
                    found = known.get(name) or connection.execute(Q["find_key"], name).fetchone()
                    answer = known[name] = Started(*found) if found else Started(run.run_id, "pending")
                if answer is None or answer.run_id == run.run_id:
                    new.append(run)
                answers.append(answer or Started(run.run_id, "pending"))
            add_runs(connection, self._clock.wall(), new)
            return answers

        return await self._writer.run(write)

    async def claim(self, worker_id: str, lanes: Sequence[int], limit: int, suspects: int) -> Claimed:
        """Leases up to `limit` due runs of these lanes, oldest first."""
        return await self._writer.run(partial(self._claim, worker_id, lanes, limit, suspects))

    async def load(self, leases: Sequence[Lease]) -> Mapping[str, History]:
        """The past of claimed runs."""
        return await self._reader.load(leases)

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Applies each advance whose run is still owned as it says; answers in order."""

        def trusting(connection: sqlite3.Connection) -> list[Verdict]:
            return commit_trusting(connection, self._clock.wall(), worker_id, advances)

        def judging(connection: sqlite3.Connection) -> list[Verdict]:
            return commit_judging(connection, self._clock.wall(), worker_id, advances)

        try:
            return await self._writer.run(trusting)
        except MismatchError:
            return await self._writer.run(judging)

    async def deliver(
        self, run_id: str, name: str, value: bytes, *, key: str | None, waiting_only: bool
    ) -> Delivered | None:
        """Puts a signal into the run's mailbox; None when there is no such run."""

        def write(connection: sqlite3.Connection) -> Delivered | None:
            found = connection.execute(Q["find_addressee"], (run_id,)).fetchone()
            if found is None:
                return None
            ref, stored, awaiting, worker, mail = found
            status: Status = stored
            if key is not None and connection.execute(Q["has_mail_key"], (ref, key)).fetchone():
                return Delivered(accepted=True, status=status, woken=False)
            wakes = awaiting == name
            if status in ENDED or (waiting_only and not wakes):
                return Delivered(accepted=False, status=status, woken=False)
            letter = {
                "ref": ref,
                "n": min(mail, 1 << 62) + 1,
                "kind": "signal",
                "name": name,
                "value": value,
                "error": None,
            }
            connection.execute(Q["add_mail"], {**letter, "key": key})
            connection.execute(Q["ring"], {"ref": ref, "now": self._clock.wall(), "wakes": wakes})
            status = "running" if wakes and status == "suspended" else status
            return Delivered(accepted=True, status=status, woken=wakes and worker is None)

        return await self._writer.run(write)

    async def cancel(self, run_id: str) -> list[str] | None:
        """Cancels the run and its descendants that have not ended; their ids, or None when there is no such run."""

        def write(connection: sqlite3.Connection) -> list[str] | None:
            family = connection.execute(Q["find_family"], (run_id,)).fetchone()
            if family is None:
                return None
            now = self._clock.wall()
            ids = [found for (found,) in connection.execute(Q["find_tree"], {"run_id": run_id}).fetchall()]
            connection.execute(Q["cancel"], {"now": now, "ids": as_json(ids)})
            parent_id, parent_node = family
            if run_id in ids and parent_id is not None:
                error = Failure(parent_node, "ChildCanceled", f"run {run_id} was canceled")
                post(connection, now, Post(parent_id, parent_node, None, error))
            return ids

        return await self._writer.run(write)

    async def enlist(self, worker_id: str, host: str) -> Heart:
        """Registers a worker, alive from now on."""
        row = {"id": worker_id, "host": host, "pid": os.getpid(), "process": self._clock.process}
        if self._location.path is None:
            await self._writer.run(lambda connection: _enlist(connection, row, self._clock.wall()))
            return MemoryHeart(self._in_memory(), worker_id)
        lock = LockFile(self._location.path, worker_id)
        try:
            lock.hold()
        except OSError as error:
            raise StoreUnavailableError(self.url, f"no lock file can be made beside it: {error}") from error
        self._locks[worker_id] = lock
        await self._writer.run(lambda connection: _enlist(connection, row, self._clock.wall()))
        return FileHeart(self._location, self._clock, worker_id)

    async def retire(self, worker_id: str) -> None:
        """Removes a worker and frees what it still holds, without blame."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(Q["dismiss"], (worker_id,))
            connection.execute(Q["free"], {"worker": worker_id, "now": self._clock.wall()})

        await self._writer.run(write)
        lock = self._locks.pop(worker_id, None)
        if lock is not None:
            lock.release()

    async def give_back(self, worker_id: str, tokens: Mapping[str, int], delay: int = 0) -> None:
        """Frees runs leased to the worker under these tokens that it does not drive; due after `delay`, no blame."""
        named = {"worker": worker_id, "tokens": as_json(dict(tokens)), "delay": delay}
        await self._writer.run(
            lambda connection: connection.execute(Q["give_back"], {**named, "now": self._clock.wall()})
        )

    async def workers(self) -> list[WorkerRow]:
        """Everybody who is registered; one whose process's lock is free is certainly dead."""
        found = await self._reading.run(lambda connection: connection.execute(Q["list_workers"]).fetchall())
        now = self._clock.wall()
        return [
            WorkerRow(worker_id, beat, now - beat, host, pid, self._is_dead(worker_id, process))
            for worker_id, beat, host, pid, process in found
        ]

    async def bury(self, worker_id: str, silent_for: int | None) -> int | None:
        """Removes a dead worker and frees its runs, counting the crash; None when it lives, or was buried already."""

        def write(connection: sqlite3.Connection) -> int | None:
            now = self._clock.wall()
            if silent_for is None:
                gone = connection.execute(Q["dismiss"], (worker_id,)).rowcount
            else:
                since = {"id": worker_id, "silent_since": now - silent_for}
                gone = connection.execute(Q["dismiss_silent"], since).rowcount
            return connection.execute(Q["free_crashed"], {"worker": worker_id, "now": now}).rowcount if gone else None

        freed = await self._writer.run(write)
        if freed is not None and self._location.path is not None and worker_id not in self._locks:
            LockFile(self._location.path, worker_id).remove()
        return freed

    async def sweep(self) -> int:
        """Makes due every run that should move but that nothing would move; how many."""

        def write(connection: sqlite3.Connection) -> int:
            now = {"now": self._clock.wall()}
            return sum(connection.execute(Q[name], now).rowcount for name in ("sweep_orphans", "sweep_stranded"))

        return await self._writer.run(write)

    def _claim(
        self, worker_id: str, lanes: Sequence[int], limit: int, suspects: int, connection: sqlite3.Connection
    ) -> Claimed:
        now = self._clock.wall()
        if connection.execute(Q["is_enlisted"], (worker_id,)).fetchone() is None:
            return Claimed([], now, None, alive=False)
        refs: list[int] = []
        for suspect, room in ((True, min(suspects, limit)), (False, limit)):
            for lane in lanes:
                left = (room if suspect else limit) - len(refs)
                if left > 0:
                    wanted = {"lane": lane, "now": now, "suspect": suspect, "limit": left}
                    refs += from_json(connection.execute(Q["find_due"], wanted).fetchone()[0])
        if not refs:
            due = connection.execute(Q["next_due"], {"lanes": as_json(list(lanes)), "now": now}).fetchone()[0]
            return Claimed([], now, None if due is None else due - now)
        named = {"refs": as_json(refs), "worker": worker_id, "now": now}
        connection.execute(Q["lease"], named)
        return Claimed(_leased(connection, named, refs), now, 0)

    def _is_dead(self, worker_id: str, process: str) -> bool:
        if self._location.path is None or process == self._clock.process:
            return False
        return LockFile(self._location.path, worker_id).is_free()

    def _in_memory(self) -> sqlite3.Connection:
        if self._memory is None:
            self._memory = connect(self._location)
        return self._memory

    def _migrate_file(self) -> None:
        connection = connect(self._location, read_only=self._location.read_only)
        try:
            self._upgrade(connection)
        finally:
            connection.close()

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        def upgrade() -> None:
            version, _ = self._describe(connection)
            if version > len(_MIGRATIONS):
                raise self._wrong_schema(version)
            for migration in _MIGRATIONS[version:]:
                for statement in _statements(migration.sql):
                    connection.execute(statement)
                connection.execute(Q["record_migration"], (migration.number, migration.name, self._clock.wall()))

        try:
            if self._describe(connection)[1] or self._describe(connection)[0] > len(_MIGRATIONS):
                in_transaction(connection, upgrade, self._clock.pause, write=not self._location.read_only)
        except sqlite3.Error as error:
            raise error if is_data_error(error) else unavailable(self._location, error) from error

    def _describe(self, connection: sqlite3.Connection) -> tuple[int, tuple[str, ...]]:
        known = connection.execute(Q["has_schema"]).fetchone()
        version: int = connection.execute(Q["schema_version"]).fetchone()[0] if known else 0
        return version, tuple(migration.name for migration in _MIGRATIONS[version:])

    def _wrong_schema(self, version: int) -> SchemaError:
        latest = len(_MIGRATIONS)
        advice = "upgrade stepwell" if version > latest else "run `stepwell db upgrade`"
        return SchemaError(self.url, version, latest, f"{advice}.")


def _leased(connection: sqlite3.Connection, named: dict[str, object], refs: Sequence[int]) -> list[Lease]:
    """The leases of claimed runs; those of damaged rows too, so that whoever claimed them can tell."""
    try:
        found: Sequence[tuple[Any, ...]] = _leases(connection.execute(Q["leased"], named).fetchone()[0])
    except ValueError:  # some input is no text
        found = ()
    if len(found) == len(refs):
        return [Lease._make((*lease[:-1], lease[-1].encode())) for lease in found]
    one_by_one = (connection.execute(Q["leased_run"], (ref,)).fetchone() for ref in refs)
    return [Lease._make((*lease[:-1], lease[-1] or b"")) for lease in one_by_one]


def _enlist(connection: sqlite3.Connection, row: dict[str, object], now: int) -> None:
    connection.execute(Q["enlist"], {**row, "now": now})


def _statements(script: str) -> list[str]:
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
