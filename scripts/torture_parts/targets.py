"""The store under torture: a SQLite file, or a PostgreSQL server that loses connections and is restarted.

`direct_reads.py` reads either of them while handlers run.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import asyncpg

from tests.postgres import Server

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

_POLL_SECONDS = 0.05
_UNAVAILABLE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'stepwell' ORDER BY pid"
_COUNTED = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
_LOGGED = """
SELECT count(*) FROM pg_ls_logdir() AS log, regexp_matches(pg_read_file(
    current_setting('data_directory') || '/' || current_setting('log_directory') || '/' || log.name
), 'deadlock detected', 'g')
"""
"""Counted in the server's log, which survives a crash."""


class Outage(NamedTuple):
    """An interval in which the store was unavailable, in seconds since 1970."""

    down: float
    up: float


class Target(Protocol):
    """A store and its faults."""

    url: str
    outages: list[Outage]

    def fault_loops(self, every: float, halfway: Callable[[], bool]) -> list[Coroutine[Any, Any, None]]:
        """Coroutines that inject faults: a small one every `every` seconds on average, and a large one halfway."""

    async def figures(self) -> dict[str, int]:
        """The figures to report, once all users of the store have exited."""

    def faults(self, figures: dict[str, int]) -> list[str]:
        """The figures that should be zero and are not."""

    def remove(self) -> None:
        """Removes the store."""


class FileTarget:
    """A SQLite file in a folder; no faults are injected."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'store.db'}"
        self.outages: list[Outage] = []

    def fault_loops(self, _every: float, _halfway: Callable[[], bool]) -> list[Coroutine[Any, Any, None]]:
        """None."""
        return []

    async def figures(self) -> dict[str, int]:
        """Nothing."""
        return {}

    def faults(self, _figures: dict[str, int]) -> list[str]:
        """None."""
        return []

    def remove(self) -> None:
        """The folder is the caller's."""


class ServerTarget:
    """A server of its own, with fsync; its backends are terminated, and it is restarted in immediate mode."""

    def __init__(self, chance: random.Random) -> None:
        self._server = Server(settings={"logging_collector": "on"})
        self._chance = chance
        self._terminated = 0
        self._deadlocks = 0
        self.url = self._server.dsn
        self.outages: list[Outage] = []

    def fault_loops(self, every: float, halfway: Callable[[], bool]) -> list[Coroutine[Any, Any, None]]:
        """Terminates backends at random, and crashes the server once."""
        return [self._cut(every), self._crash(halfway)]

    async def figures(self) -> dict[str, int]:
        """The injected faults and the deadlocks, counted by the statistics (which a crash resets) and by the log."""
        async with self._connected() as connection:
            return {
                "backends terminated": self._terminated,
                "server restarts": len(self.outages),
                "deadlocks": self._deadlocks + await connection.fetchval(_COUNTED),
                "deadlocks logged": await connection.fetchval(_LOGGED),
            }

    def faults(self, figures: dict[str, int]) -> list[str]:
        """Deadlocks: workers never wait for a lock, so there must be none."""
        return [f"{name}: {figures[name]}" for name in ("deadlocks", "deadlocks logged") if figures[name]]

    def remove(self) -> None:
        """Stops it and removes its folder."""
        self._server.remove()

    async def _cut(self, every: float) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / every))
            with suppress(*_UNAVAILABLE):
                async with self._connected() as connection:
                    backends = [pid for (pid,) in await connection.fetch(_BACKENDS)]
                    if backends:
                        terminate = "SELECT pg_terminate_backend($1)"
                        self._terminated += await connection.fetchval(terminate, self._chance.choice(backends))

    async def _crash(self, halfway: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if halfway():
                break
        async with self._connected() as connection:
            self._deadlocks += await connection.fetchval(_COUNTED)
        down = time.time()
        await asyncio.to_thread(self._server.restart, signal.SIGQUIT)
        self.outages.append(Outage(down, time.time()))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self._server.dsn, timeout=10)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)
