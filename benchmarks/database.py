"""The PostgreSQL that is measured: `STEPWELL_TEST_PG`, or one of the tests' own; nothing is measured here."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.postgres import VARIABLE, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@contextlib.contextmanager
def database(**settings: str) -> Iterator[str]:
    """The DSN of a server, durable and with these settings where it is our own; such a one is gone in the end."""
    if VARIABLE in os.environ:
        yield os.environ[VARIABLE]
        return
    server = Server(fsync=True, settings=settings)
    try:
        yield server.dsn
    finally:
        server.remove()


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """A connection of our own, without the store's settings."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def fresh_schema(dsn: str) -> AsyncIterator[str]:
    """The name of a schema that nobody has used; it is dropped in the end."""
    schema = f"bench_{secrets.token_hex(6)}"
    try:
        yield schema
    finally:
        async with connected(dsn) as connection:
            await connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
