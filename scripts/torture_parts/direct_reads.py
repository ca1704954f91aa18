"""Reads a store under torture without the engine: the journal of a run, and the runs that a worker holds."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import asyncpg

from tests.simulation.trace import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Sequence

_SERVER_JOURNAL = """
SELECT node, item, phase, n, kind, status FROM stepwell.entries WHERE run_id = $1 ORDER BY seq
"""
_HELD = "SELECT id FROM stepwell_runs WHERE worker = ?"
_SERVER_HELD = "SELECT id::text FROM stepwell.runs WHERE worker = $1"
_RETRY_SECONDS = 0.05
_UNAVAILABLE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class StoreReader(Protocol):
    """Reads a store, from any thread."""

    def journal(self, run_id: str) -> Sequence[Sequence[Any]]:
        """Node, item, phase, n, kind and status of each committed row of the run."""

    def held(self, worker_id: str) -> set[str]:
        """The runs leased to a worker now."""


def open_reader(url: str) -> StoreReader:
    """A reader of the store with this URL."""
    return FileReader(urlsplit(url).path[1:]) if url.startswith("sqlite") else ServerReader(url)


class FileReader:
    """Reads the file."""

    def __init__(self, path: str) -> None:
        self._name = f"file:{path}?mode=ro"
        self._connection: sqlite3.Connection | None = None

    def journal(self, run_id: str) -> Sequence[Sequence[Any]]:
        """As it is committed."""
        return self._ask(JOURNAL, run_id)

    def held(self, worker_id: str) -> set[str]:
        """As it is committed."""
        return {run_id for (run_id,) in self._ask(_HELD, worker_id)}

    def _ask(self, sql: str, about: str) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = sqlite3.connect(self._name, uri=True, check_same_thread=False, timeout=30)
        return self._connection.execute(sql, (about,)).fetchall()


class ServerReader:
    """Reads the server on its own connection and event loop; waits while the server is unavailable."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._loop = asyncio.new_event_loop()
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        threading.Thread(target=self._loop.run_forever, name="torture-look", daemon=True).start()

    def journal(self, run_id: str) -> Sequence[Sequence[Any]]:
        """As it is committed."""
        return self._answer(_SERVER_JOURNAL, run_id)

    def held(self, worker_id: str) -> set[str]:
        """As it is committed."""
        return {run_id for (run_id,) in self._answer(_SERVER_HELD, worker_id)}

    def _answer(self, sql: str, about: str) -> list[tuple[Any, ...]]:
        return asyncio.run_coroutine_threadsafe(self._in_turn(sql, about), self._loop).result()

    async def _in_turn(self, sql: str, about: str) -> list[tuple[Any, ...]]:
        async with self._turn:
            return await self._ask(sql, about)

    async def _ask(self, sql: str, about: str) -> list[tuple[Any, ...]]:
        while True:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(self._dsn, timeout=5)
                return [tuple(row) for row in await self._connection.fetch(sql, about, timeout=5)]
            except _UNAVAILABLE:
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
                await asyncio.sleep(_RETRY_SECONDS)
