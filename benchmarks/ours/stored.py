"""A store full of finished runs: the engine finishes a thousand, and copies of their rows make the rest.

Copies have ids as unique and as old as if they had been started one minute after the other. The copy asks the database
for its tables, columns and indexes, so that it fits any version: what names a run (`id`, `run_id` or `ref`) is changed,
and indexes are made again in the end, which is faster than keeping them.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from benchmarks.ours.drain import drained

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TEMPLATE = 1_000
JOURNAL_ROWS = 3
"""Of each copied run only the first few journal rows are copied; of a million runs all would take minutes."""
AT_ONCE = 50
OLDER_TEXT = "printf('%08x', {first} - copy) || substr({column}, 9)"
OLDER_UUID = "(lpad(to_hex({first}::bigint - copy), 8, '0') || substr({column}::text, 9))::uuid"
"""A UUIDv7 begins with 32 bits of its time in units of 65 seconds; the rest stays the run's own."""
COPIES = "(WITH RECURSIVE g (copy) AS (SELECT {0} UNION ALL SELECT copy + 1 FROM g WHERE copy < {1}) SELECT * FROM g)"
COLUMNS = """
SELECT c.table_name, c.column_name FROM information_schema.columns AS c JOIN information_schema.tables AS t
    USING (table_schema, table_name)
WHERE table_schema = $1 AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER' ORDER BY c.ordinal_position
"""
INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = $1
    AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""
ADVANCE = "SELECT setval(s, $2) FROM pg_get_serial_sequence($1, 'ref') AS s WHERE s IS NOT NULL"


async def fill(url: str, finished: int) -> dict[str, float]:
    """Has so many finished runs in the store."""
    template = min(TEMPLATE, finished)
    await drained(url, template)
    copies = finished // template - 1
    if url.startswith("sqlite:///"):
        _copy_in_file(url.removeprefix("sqlite:///"), copies)
    else:
        await _copy_on_server(url, copies)
    return {}


def _copying(columns: Mapping[str, Sequence[str]], copies: int, largest: int, first: str, older: str) -> Iterator[str]:
    """The statements that copy all rows of the template's runs, some copies at a time."""
    for table, its in columns.items():
        changed = {name: older.format(first=int(first[:8], 16), column=name) for name in ("id", "run_id")}
        changed["ref"] = f"ref + copy * {largest}"
        changed = {name: value for name, value in changed.items() if name in its}
        if not changed or ("id" in changed and "created_at" not in its):
            continue
        template = f"ref <= {largest}" if "ref" in changed else f"{next(iter(changed))} >= '{first}'"
        few = f" AND seq <= {JOURNAL_ROWS}" if {"node", "seq"} <= set(its) else ""
        names, values = ", ".join(its), ", ".join(changed.get(column, column) for column in its)
        # From a table of its own: with the indexes gone, each statement would read all that was copied before.
        yield f"CREATE TEMPORARY TABLE template_{table} AS SELECT * FROM {table} WHERE {template}{few}"
        for begin in range(1, copies + 1, AT_ONCE):
            some = COPIES.format(begin, min(begin + AT_ONCE - 1, copies))
            yield (
                f"INSERT INTO {table} ({names}) {'OVERRIDING SYSTEM VALUE ' * (older is OLDER_UUID)}"
                f"SELECT {values} FROM template_{table}, {some} AS c"
            )


def _copy_in_file(file: str, copies: int) -> None:
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}
        largest, first = connection.execute("SELECT max(ref), min(id) FROM stepwell_runs").fetchone()
        indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        made = indexes.fetchall()
        for name, _ in made:
            connection.execute(f"DROP INDEX {name}")
        for sql in _copying(columns, copies, largest, first, OLDER_TEXT):
            connection.execute(sql)
        for _, sql in made:
            connection.execute(sql)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


async def _copy_on_server(url: str, copies: int) -> None:
    import asyncpg  # noqa: PLC0415  a file needs no driver

    parts = urlsplit(url)
    (schema,) = parse_qs(parts.query)["schema"]
    connection = await asyncpg.connect(
        parts._replace(query="").geturl(), server_settings={"search_path": schema}, command_timeout=600
    )
    try:
        await connection.execute("SET synchronous_commit = off")
        await connection.execute("SET maintenance_work_mem = '256MB'")
        columns: dict[str, list[str]] = {}
        for table, column in await connection.fetch(COLUMNS, schema):
            columns.setdefault(table, []).append(column)
        by_ref = "ref" in columns["runs"]
        largest = await connection.fetchval("SELECT max(ref) FROM runs") if by_ref else 0
        first = await connection.fetchval("SELECT id::text FROM runs ORDER BY id LIMIT 1")
        indexes = await connection.fetch(INDEXES, schema)
        for name, _ in indexes:
            await connection.execute(f"DROP INDEX {name}")
        for sql in _copying(columns, copies, largest, first, OLDER_UUID):
            await connection.execute(sql)
        for _, sql in indexes:
            await connection.execute(sql)
        if by_ref:
            await connection.execute(ADVANCE, f"{schema}.runs", (copies + 1) * largest + 1)
        for table in columns:
            await connection.execute(f"VACUUM (ANALYZE) {table}")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
