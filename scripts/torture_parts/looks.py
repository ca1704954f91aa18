"""Looks into a tortured store past the engine: what is journaled of a run, and which runs a worker holds."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import asyncpg

from tests.simulation.story import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Sequence

_SERVER_JOURNAL = """
SELECT node, item, phase, n, kind, status FROM stepwell.journal WHERE run_id = $1 ORDER BY seq
"""
_HELD = "SELECT id FROM stepwell_runs WHERE worker = ?"
_SERVER_HELD = "SELECT id::text FROM stepwell.runs WHERE worker = $1"
_AWAY_SECONDS = 0.05
_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class Look(Protocol):
    """One at a time, from any thread."""

    def journal(self, run_id: str) -> Sequence[Sequence[Any]]:
        """Node, item, phase, n, kind and status of each row that the run has now."""

    def held(self, worker_id: str) -> set[str]:
        """The runs leased to a worker now."""


def look_at(url: str) -> Look:
    """A look into the store of this URL."""
    return FileLook(urlsplit(url).path[1:]) if url.startswith("sqlite") else ServerLook(url)


class FileLook:
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


class ServerLook:
    """Asks the server, on a connection and an event loop of its own: whoever asks waits, as long as that is away."""

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
            except _AWAY:
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
                await asyncio.sleep(_AWAY_SECONDS)
