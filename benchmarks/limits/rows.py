"""The rows of the raw limit in either database, each call one transaction of one connection."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SQLITE_SCHEMA = """
CREATE TABLE runs (ref INTEGER PRIMARY KEY, seq INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;
CREATE TABLE journal (
    ref INTEGER NOT NULL, seq INTEGER NOT NULL, node TEXT NOT NULL, value BLOB, finished_at INTEGER NOT NULL,
    PRIMARY KEY (ref, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE mailbox (ref INTEGER NOT NULL, seq INTEGER NOT NULL, value BLOB, PRIMARY KEY (ref, seq))
STRICT, WITHOUT ROWID;
"""
SQLITE_INSERT = "INSERT INTO journal (ref, seq, node, value, finished_at) VALUES "
SQLITE_UPDATE = "UPDATE runs SET seq = ?, updated_at = ? WHERE ref = ?"
SQLITE_UPDATE_MANY = """
UPDATE runs SET seq = v.column2, updated_at = v.column3 FROM (VALUES {}) AS v WHERE ref = v.column1
"""
POSTGRES_SCHEMA = """
CREATE SCHEMA {0};
CREATE TABLE {0}.runs (id uuid PRIMARY KEY, seq integer NOT NULL, updated_at bigint NOT NULL) WITH (fillfactor = 60);
CREATE TABLE {0}.journal (
    run_id uuid NOT NULL, seq integer NOT NULL, node text NOT NULL, value bytea, finished_at bigint NOT NULL,
    PRIMARY KEY (run_id, seq)
);
CREATE TABLE {0}.mailbox (run_id uuid NOT NULL, seq integer NOT NULL, value bytea, PRIMARY KEY (run_id, seq));
"""
POSTGRES_START = "INSERT INTO {0}.runs SELECT unnest($1::uuid[]), 0, 0"
POSTGRES_STEP = """
WITH x AS (SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::bytea[], $5::bigint[])
           AS x (id, seq, node, value, finished_at)),
u AS (UPDATE {0}.runs AS r SET seq = x.seq, updated_at = x.finished_at FROM x WHERE r.id = x.id)
INSERT INTO {0}.journal SELECT * FROM x
"""
POSTGRES_SIGNAL = """
WITH x AS (SELECT * FROM unnest($1::uuid[], $2::bytea[]) AS x (id, value)),
u AS (UPDATE {0}.runs AS r SET updated_at = 1 FROM x WHERE r.id = x.id)
INSERT INTO {0}.mailbox SELECT id, 1, value FROM x
"""


class Rows(Protocol):
    """What a case writes, in either database."""

    async def start(self, runs: int) -> list[Any]:
        """Inserts so many runs in one transaction; their ids."""

    async def step(self, refs: Sequence[Any], seq: int, value: bytes) -> None:
        """A journal row and an updated row for each of these runs, in one transaction."""

    async def entries(self, ref: Any, first: int, count: int) -> None:
        """So many journal rows of one run and its row updated once, in one transaction."""

    async def signal(self, refs: Sequence[Any], value: bytes) -> None:
        """A message for each of these runs, and its row updated, in one transaction."""


class SqliteRows:
    """The rows in a file; a batch is written by `executemany`, or by one statement with many VALUES."""

    def __init__(self, connection: sqlite3.Connection, *, by_values: bool) -> None:
        self._connection = connection
        self._by_values = by_values
        self._runs = 0

    async def start(self, runs: int) -> list[int]:
        """Inserts so many runs in one transaction; their ids."""
        refs = list(range(self._runs, self._runs + runs))
        self._runs += runs
        with self._transaction():
            self._connection.executemany("INSERT INTO runs VALUES (?, 0, 0)", ((ref,) for ref in refs))
        return refs

    async def step(self, refs: Sequence[int], seq: int, value: bytes) -> None:
        """A journal row and an updated row for each of these runs, in one transaction."""
        now, node = time.time_ns() // 1000, f"step_{seq}"
        with self._transaction():
            if not self._by_values:
                self._connection.executemany(
                    f"{SQLITE_INSERT} (?, ?, ?, ?, ?)", [(ref, seq, node, value, now) for ref in refs]
                )
                self._connection.executemany(SQLITE_UPDATE, [(seq, now, ref) for ref in refs])
                return
            rows: list[object] = []
            runs: list[int] = []
            for ref in refs:
                rows += (ref, seq, node, value, now)
                runs += (ref, seq, now)
            self._connection.execute(SQLITE_INSERT + ", ".join(["(?, ?, ?, ?, ?)"] * len(refs)), rows)
            self._connection.execute(SQLITE_UPDATE_MANY.format(", ".join(["(?, ?, ?)"] * len(refs))), runs)

    async def entries(self, ref: int, first: int, count: int) -> None:
        """So many journal rows of one run and its row updated once, in one transaction."""
        now = time.time_ns() // 1000
        rows = [(ref, seq, f"step_{seq}", b"1", now) for seq in range(first, first + count)]
        with self._transaction():
            self._connection.executemany(f"{SQLITE_INSERT} (?, ?, ?, ?, ?)", rows)
            self._connection.execute(SQLITE_UPDATE, (first + count - 1, now, ref))

    async def signal(self, refs: Sequence[int], value: bytes) -> None:
        """A message for each of these runs, and its row updated, in one transaction."""
        with self._transaction():
            self._connection.executemany("INSERT INTO mailbox VALUES (?, 1, ?)", [(ref, value) for ref in refs])
            self._connection.executemany(SQLITE_UPDATE, [(0, 1, ref) for ref in refs])

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        self._connection.execute("BEGIN IMMEDIATE")
        yield
        self._connection.execute("COMMIT")


class PostgresRows:
    """The rows in a schema; each call is one statement, which is its own transaction."""

    def __init__(self, connection: Any, schema: str) -> None:
        self._connection = connection
        self._start, self._step, self._signal = (
            sql.format(schema) for sql in (POSTGRES_START, POSTGRES_STEP, POSTGRES_SIGNAL)
        )
        self._runs = 0

    async def start(self, runs: int) -> list[str]:
        """Inserts so many runs in one transaction; their ids."""
        ids = [f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}" for number in range(self._runs, self._runs + runs)]
        self._runs += runs
        await self._connection.execute(self._start, ids)
        return ids

    async def step(self, refs: Sequence[str], seq: int, value: bytes) -> None:
        """A journal row and an updated row for each of these runs, in one transaction."""
        many = len(refs)
        now = time.time_ns() // 1000
        await self._connection.execute(
            self._step, refs, [seq] * many, [f"step_{seq}"] * many, [value] * many, [now] * many
        )

    async def entries(self, ref: str, first: int, count: int) -> None:
        """So many journal rows of one run and its row updated once, in one transaction."""
        await self._connection.execute(
            self._step,
            [ref] * count,
            list(range(first, first + count)),
            [f"step_{seq}" for seq in range(first, first + count)],
            [b"1"] * count,
            [time.time_ns() // 1000] * count,
        )

    async def signal(self, refs: Sequence[str], value: bytes) -> None:
        """A message for each of these runs, and its row updated, in one transaction."""
        await self._connection.execute(self._signal, refs, [value] * len(refs))


@contextlib.asynccontextmanager
async def rows(url: str, *, by_values: bool = True) -> AsyncIterator[Rows]:
    """Empty tables in the file or the schema that the URL of a store names."""
    if url.startswith("sqlite:///"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(SQLITE_SCHEMA)
            yield SqliteRows(connection, by_values=by_values)
        finally:
            connection.close()
        return
    import asyncpg  # noqa: PLC0415  a file needs no driver

    parts = urlsplit(url)
    (schema,) = parse_qs(parts.query)["schema"]
    connected = await asyncpg.connect(parts._replace(query="").geturl())
    try:
        await connected.execute(POSTGRES_SCHEMA.format(schema))
        yield PostgresRows(connected, schema)
    finally:
        await connected.close()
