"""Fresh stores to measure on: a file or a schema that nobody has used, gone in the end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.cases import SQLITE
from benchmarks.database import connected

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def fresh_store(store: str, dsn: str) -> Iterator[str]:
    """The URL of such a store; of PostgreSQL a schema in the database of the DSN."""
    if store == SQLITE:
        with tempfile.TemporaryDirectory(prefix="stepwell-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'store.db'}"
        return
    schema = f"bench_{secrets.token_hex(6)}"
    try:
        yield f"{dsn}{'&' if '?' in dsn else '?'}schema={schema}"
    finally:
        asyncio.run(_execute(dsn, f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'))


@contextlib.contextmanager
def fresh_database(dsn: str) -> Iterator[str]:
    """The DSN of a database of its own on the same server: some peers know no schemas."""
    name = f"bench_{secrets.token_hex(6)}"
    asyncio.run(_execute(dsn, f'CREATE DATABASE "{name}"'))
    try:
        yield urlsplit(dsn)._replace(path=f"/{name}").geturl()
    finally:
        asyncio.run(_execute(dsn, f'DROP DATABASE "{name}" WITH (FORCE)'))


def settle(dsn: str) -> None:
    """Has the server write what is in memory now, so that no measurement pays for the one before."""
    asyncio.run(_execute(dsn, "CHECKPOINT"))


async def _execute(dsn: str, sql: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute(sql)
