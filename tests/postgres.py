"""A real PostgreSQL for the tests: `STEPWELL_TEST_PG`, or a server of our own, started when first asked for.

One server a process, a schema of its own for each store. The launcher itself is the users', in `stepwell.testing`;
`STEPWELL_TEST_PG_BIN` is the folder of the binaries it takes here.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import asyncpg

from stepwell.store.postgres.store import PostgresStore
from stepwell.testing.postgres import NoPostgresError, PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from tests.moving_clock import MovingClock

__all__ = [
    "BIN_VARIABLE",
    "QUICK_VARIABLE",
    "VARIABLE",
    "NoPostgresError",
    "Server",
    "apart",
    "dsn",
    "execute",
    "fresh_url",
    "moved_store",
    "with_schema",
]

VARIABLE = "STEPWELL_TEST_PG"
BIN_VARIABLE = "STEPWELL_TEST_PG_BIN"
QUICK_VARIABLE = "STEPWELL_TEST_QUICK"
"""Set while `make quick` runs: its tests must not need a server (tests/conftest.py)."""


class Server(PostgresServer):
    """A server from the binaries that the tests are to run on."""

    def __init__(self, *, fsync: bool = True, settings: Mapping[str, str] | None = None) -> None:
        assert QUICK_VARIABLE not in os.environ, "`make quick` starts no PostgreSQL: mark this test `slow`"
        super().__init__(fsync=fsync, settings=settings, bin=os.environ.get(BIN_VARIABLE))


def apart(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives, run to its end on an event loop of its own in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@cache
def dsn() -> str:
    """A server for this process's tests."""
    given = os.environ.get(VARIABLE)
    if given:
        return given
    return Server(fsync=False).dsn


def fresh_url() -> str:
    """The URL of a store that nobody has used: a schema of its own, dropped at the end."""
    schema = f"test_{secrets.token_hex(6)}"
    if VARIABLE in os.environ:
        atexit.register(_drop, schema)
    return with_schema(dsn(), schema)


def with_schema(dsn: str, schema: str) -> str:
    """The URL of the store in that schema of a database."""
    return f"{dsn}{'&' if '?' in dsn else '?'}schema={schema}"


def _drop(schema: str) -> None:
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


def execute(*statements: str) -> None:
    """Runs statements on the tests' server."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        for statement in statements:
            await connection.execute(statement)

    _connected(work)


def ask(query: str) -> list[asyncpg.Record]:
    """What the query gives on the tests' server."""
    found: list[asyncpg.Record] = _connected(lambda connection: connection.fetch(query))
    return found


def _connected(work: Callable[[asyncpg.Connection[asyncpg.Record]], Coroutine[Any, Any, Any]]) -> Any:
    async def connect() -> Any:
        connection = await asyncpg.connect(dsn())
        try:
            return await work(connection)
        finally:
            await connection.close()

    return apart(connect())


def moved_store(folder: Path, clock: MovingClock) -> PostgresStore:
    """A store on a schema of its own, whose instant is the clock's."""
    url = fresh_url()
    schema = url.rpartition("=")[2]
    table = f'"{schema}".moved'
    execute(
        f'CREATE SCHEMA "{schema}"',
        f"CREATE TABLE {table} (at bigint NOT NULL)",
        f"INSERT INTO {table} VALUES ({clock.wall()})",
    )
    clock.on_move.append(lambda now: execute(f"UPDATE {table} SET at = {now}"))
    return PostgresStore(url, clock)
