"""What a PostgreSQL server on this machine counts: CPU, WAL, sizes, and its statements by what they are for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

TICK_MICROS = 1_000_000 / os.sysconf("SC_CLK_TCK")
KINDS = (
    ("commit", re.compile(r"INSERT INTO \S*journal")),
    ("start", re.compile(r"INSERT INTO \S*runs")),
    ("notify", re.compile(r"pg_notify")),
    ("beat", re.compile(r"UPDATE \S*workers SET beat")),
    ("claim", re.compile(r"SKIP LOCKED.*UPDATE \S*runs", re.DOTALL)),
    ("watch", re.compile(r"FROM \S*workers\b")),
)
"""What a statement is for, by the first pattern that its text has: statements that have none are `other`."""
STATEMENTS = """
SELECT query, calls, total_exec_time FROM pg_stat_statements
WHERE query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE '%pg_total_relation_size%'
"""
SIZES = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::regnamespace"


class Counters:
    """The server's counters at one moment; the difference of two is what happened between them."""

    def __init__(self, values: dict[str, float]) -> None:
        self.values = values

    def since(self, before: Counters) -> dict[str, float]:
        """What was counted since then."""
        return {name: value - before.values.get(name, 0.0) for name, value in self.values.items()}


async def counters(connection: Any, schema: str) -> Counters:
    """Reads them, through a connection that is not itself measured."""
    postmaster = _parent(await connection.fetchval("SELECT pg_backend_pid()"))
    values = _processor_micros(postmaster)
    values["wal_bytes"] = float(await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
    sizes = await connection.fetchval(SIZES, schema) if await _exists(connection, schema) else 0
    values["disk_bytes"] = float(sizes or 0)
    for query, calls, milliseconds in await connection.fetch(STATEMENTS):
        kind = _kind(query)
        values[f"{kind}_calls"] = values.get(f"{kind}_calls", 0.0) + calls
        values[f"{kind}_micros"] = values.get(f"{kind}_micros", 0.0) + milliseconds * 1_000
    return Counters(values)


async def _exists(connection: Any, schema: str) -> bool:
    return bool(await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", schema))


def _kind(query: str) -> str:
    return next((kind for kind, pattern in KINDS if pattern.search(query)), "other")


def _processor_micros(postmaster: int) -> dict[str, float]:
    """Microseconds of CPU of all the server's processes, with those that ended, and of those in the background."""
    found = {"database_micros": 0.0, "background_micros": 0.0}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if _parent(int(entry.name)) == postmaster:
                    spent = sum(_times(int(entry.name))[:2]) * TICK_MICROS
                    found["database_micros"] += spent
                    if b"127.0.0.1" not in (entry / "cmdline").read_bytes():
                        found["background_micros"] += spent
            except OSError:
                continue
    # What ended is with the postmaster.
    found["database_micros"] += sum(_times(postmaster)[2:]) * TICK_MICROS
    return found


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _parent(pid: int) -> int:
    return int(_fields(pid)[1])


def _times(pid: int) -> list[int]:
    """Its user and system time, then those of its children that have ended, in ticks."""
    return [int(field) for field in _fields(pid)[11:15]]
