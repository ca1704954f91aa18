"""A foreign connection beside a PostgreSQL store, whose transactions stay open as long as a test wants."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from stepwell.store.postgres.location import location_of
from stepwell.store.postgres.sql import NOW, Queries, in_schema
from stepwell.store.postgres.store import PostgresStore
from tests.conformance.keeper import KINDS, Keeper, opened
from tests.moving_clock import MovingClock
from tests.postgres import dsn, execute
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'stepwell' AND wait_event_type = 'Lock'
"""
_CLIENTS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
"""


class Rival:
    """Somebody with a connection of its own to a store's tables."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], schema: str) -> None:
        self.connection = connection
        self._schema = schema

    async def execute(self, sql: str, *given: object) -> None:
        """Runs a statement that is written for the schema `stepwell`, as the store's own are."""
        await self.connection.execute(in_schema(sql, self._schema), *given)

    async def fetch(self, sql: str, *given: object) -> list[asyncpg.Record]:
        """The rows that such a statement gives."""
        return await self.connection.fetch(in_schema(sql, self._schema), *given)

    async def value(self, sql: str, *given: object) -> Any:
        """The one value that such a statement gives."""
        return await self.connection.fetchval(in_schema(sql, self._schema), *given)

    async def signal(self, run_id: str, name: str, value: bytes, *, waiting_only: bool = False) -> None:
        """What the store does for a signal, in whatever transaction this connection is."""
        signal = {"run_id": run_id, "name": name, "value": value, "waiting_only": waiting_only}
        await self.connection.fetch(*Queries(self._schema, NOW)("deliver_signal", **signal, key=None, receipt=None))

    async def until_waiting(self, count: int = 1) -> None:
        """Waits until so many of the store's statements wait for a lock; meant for a database of the test's own."""

        async def waiting() -> bool:
            await self.connection.execute("SELECT pg_stat_clear_snapshot()")  # what it saw stays, in a transaction
            return bool(await self.connection.fetchval(_WAITING) == count)

        await eventually(waiting)

    async def owners(self) -> list[tuple[str, int, int]]:
        """Worker, token and crashes of every run, in the order they were started."""
        rows = await self.fetch("SELECT worker, token, crashes FROM stepwell.runs ORDER BY id")
        return [(worker, token, crashes) for worker, token, crashes in rows]


@contextlib.asynccontextmanager
async def rival_of(url: str) -> AsyncIterator[Rival]:
    """A rival on the store of this URL; what it has not committed in the end is rolled back."""
    location = location_of(url)
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(location.dsns[0])
    try:
        yield Rival(connection, location.schema)
    finally:
        connection.terminate()


@contextlib.contextmanager
def own_database(deadlock_timeout: str = "200ms") -> Iterator[str]:
    """The URL of a store in a database of its own, whose deadlocks are counted apart, and found after that time."""
    name = f"race_{secrets.token_hex(6)}"
    execute(f"CREATE DATABASE {name}", f"ALTER DATABASE {name} SET deadlock_timeout = '{deadlock_timeout}'")
    try:
        yield urlunsplit(urlsplit(dsn())._replace(path=f"/{name}"))
    finally:
        execute(f"DROP DATABASE {name} WITH (FORCE)")


async def deadlocks_in(url: str) -> int:
    """How many deadlocks its database has had; every other connection to it is to be closed, and told its figures."""
    async with rival_of(url) as rival:

        async def alone() -> bool:
            return bool(await rival.value(_CLIENTS) == 1)

        await eventually(alone)
        found: int = await rival.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return found


@contextlib.asynccontextmanager
async def keeper_of(url: str) -> AsyncIterator[Keeper]:
    """An open store on this URL, whose clock is the database's, with the words of the conformance tests."""
    clock = MovingClock()
    clock.sql_now = None
    async with opened(PostgresStore(url, clock), clock, KINDS["postgres"]) as keeper:
        yield keeper


def queries_of(url: str) -> Queries:
    """A store's queries."""
    return Queries(location_of(url).schema, NOW)


def statements(url: str) -> dict[str, str]:
    """The texts of a store's queries by name, as its connections send them."""
    return {name: statement.sql for name, statement in queries_of(url).statements.items()}
