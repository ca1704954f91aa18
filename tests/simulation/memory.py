"""One database in memory for all histories of a process: emptied between them, and watched after each transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from stepwell.store.sqlite.reader import SqliteReader
from stepwell.store.sqlite.store import SqliteStore
from stepwell.store.sqlite.transaction_queue import InCaller
from tests.simulation.watch import TRIGGERS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from stepwell.runtime.protocol import Runtime
    from stepwell.store.sqlite.transaction_queue import Operation

T = TypeVar("T")
_KEPT: list[sqlite3.Connection] = []
"""The one connection, with its tables, triggers and prepared statements: making them takes 7 ms, emptying them 0.1."""
_TABLES = ("definitions", "runs", "inputs", "journal", "mailbox", "workers")


class WatchedQueue(InCaller):
    """The store's transactions, one at a time, each followed by a look."""

    on_commit: Callable[[], None] | None = None

    async def run(self, operation: Operation[T], *, blames_rows: bool = False) -> T:
        """The operation's result, once its transaction has been committed and looked at."""
        given = await super().run(operation, blames_rows=blames_rows)
        if self.on_commit is not None:
            self.on_commit()
        return given


async def empty_store(runtime: Runtime) -> tuple[SqliteStore, WatchedQueue]:
    """A store without runs, and what makes its transactions."""
    store = SqliteStore("sqlite://", runtime)
    if not _KEPT:
        await store.migrate()
        _KEPT.append(store._in_memory())
        _KEPT[0].executescript(TRIGGERS)
    store._memory = connection = _KEPT[0]
    connection.execute("BEGIN")
    for table in _TABLES:
        connection.execute(f"DELETE FROM stepwell_{table}")
    connection.execute("UPDATE stepwell_turns SET last = ?", (-(1 << 62),))
    connection.execute("DELETE FROM touched")
    connection.execute("DELETE FROM sqlite_sequence")  # or a run's number would tell of the histories before
    connection.execute("COMMIT")
    turns = WatchedQueue(store._location, connection)
    store._writer = store._reading = store._looking = turns
    store._reader = SqliteReader(turns, turns, runtime.wall, store.codec, shared=False)
    return store, turns
