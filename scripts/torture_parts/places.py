"""Where a tortured store is: a SQLite file, or a PostgreSQL server whose connections are cut and which is restarted.

How to look into either while handlers run is in `looks.py`.
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

_LOOKS_EVERY = 0.05
_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'stepwell' ORDER BY pid"
_COUNTED = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
_LOGGED = """
SELECT count(*) FROM pg_ls_logdir() AS log, regexp_matches(pg_read_file(
    current_setting('data_directory') || '/' || current_setting('log_directory') || '/' || log.name
), 'deadlock detected', 'g')
"""
"""What a crash of the server cannot make it forget."""


class Outage(NamedTuple):
    """When nobody could reach a store; in seconds since 1970."""

    down: float
    up: float


class Place(Protocol):
    """A store and its weather."""

    url: str
    outages: list[Outage]

    def weather(self, every: float, halfway: Callable[[], bool]) -> list[Coroutine[Any, Any, None]]:
        """What befalls it: something every so many seconds on average, and something worse once, halfway."""

    async def figures(self) -> dict[str, int]:
        """What is to be told of it, once all who used it are gone."""

    def faults(self, figures: dict[str, int]) -> list[str]:
        """What of that should not be."""

    def remove(self) -> None:
        """Takes it away."""


class FilePlace:
    """A file in a folder, which no weather befalls."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'store.db'}"
        self.outages: list[Outage] = []

    def weather(self, _every: float, _halfway: Callable[[], bool]) -> list[Coroutine[Any, Any, None]]:
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


class ServerPlace:
    """A server of its own, with fsync; its backends are terminated, and it is restarted in immediate mode."""

    def __init__(self, chance: random.Random) -> None:
        self._server = Server(settings={"logging_collector": "on"})
        self._chance = chance
        self._terminated = 0
        self._deadlocks = 0
        self.url = self._server.dsn
        self.outages: list[Outage] = []

    def weather(self, every: float, halfway: Callable[[], bool]) -> list[Coroutine[Any, Any, None]]:
        """Backends are terminated at random, and the server crashes once."""
        return [self._cut(every), self._crash(halfway)]

    async def figures(self) -> dict[str, int]:
        """What was done to it, and its deadlocks: by its statistics, which a crash loses, and by its log."""
        async with self._connected() as connection:
            return {
                "backends terminated": self._terminated,
                "server restarts": len(self.outages),
                "deadlocks": self._deadlocks + await connection.fetchval(_COUNTED),
                "deadlocks logged": await connection.fetchval(_LOGGED),
            }

    def faults(self, figures: dict[str, int]) -> list[str]:
        """Deadlocks: what never waits for a lock is in none."""
        return [f"{name}: {figures[name]}" for name in ("deadlocks", "deadlocks logged") if figures[name]]

    def remove(self) -> None:
        """Stops it and removes its folder."""
        self._server.remove()

    async def _cut(self, every: float) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / every))
            with suppress(*_AWAY):
                async with self._connected() as connection:
                    backends = [pid for (pid,) in await connection.fetch(_BACKENDS)]
                    if backends:
                        terminate = "SELECT pg_terminate_backend($1)"
                        self._terminated += await connection.fetchval(terminate, self._chance.choice(backends))

    async def _crash(self, halfway: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(_LOOKS_EVERY)
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
