"""Whether a worker drains as fast from a file full of finished runs as from an empty one.

The engine itself makes a few hundred finished runs; copies of their rows, under ids that are as unique and as old as if
they had been started one minute after the other, make the rest: the same file in a fraction of the time.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import drain
from benchmarks.child import call_in_child
from benchmarks.figures import Figure, Line, ratios

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "history: drain beside finished runs"
COPIED_TABLES = ("stepwell_runs", "stepwell_inputs", "stepwell_journal")
COPIED_AT_ONCE = 10
OLDER_ID = "printf('%08x', {first} - {copy}) || substr(id, 9)"
"""A UUIDv7 begins with 32 bits of its time in steps of 65 seconds; the run's own is kept from there on."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: `runs` drained a round, beside `finished` ones."""

    runs: int
    finished: int
    rounds: int


TINY = Size(runs=20, finished=100, rounds=1)
SHORT = Size(runs=2_000, finished=100_000, rounds=3)
FULL = Size(runs=2_000, finished=100_000, rounds=9)


def measure(size: Size) -> Iterator[Line]:
    """Steps per second in a full and in an empty file, by turns."""
    options = {"runs": size.runs, **asdict(drain.MAIN)}
    full, empty = [], []
    with tempfile.TemporaryDirectory(prefix="stepwell-history-") as folder:
        file = str(Path(folder) / "store.db")
        asyncio.run(fill(file, size.finished))
        stored = drain.count(file)[0]
        for _ in range(size.rounds):
            full.append(call_in_child("drain:drain", **options, file=file)["steps_per_second"])
            empty.append(call_in_child("drain:drain", **options)["steps_per_second"])
    yield Figure(f"{stored:,} finished runs stored", full, "steps/s")
    yield Figure("an empty file", empty, "steps/s")
    yield Figure("  share of the empty file's", [100 * share for share in ratios(full, empty)], "%", 1)


async def fill(file: str, finished: int) -> None:
    """Has the engine finish some runs, and copies them until there are so many."""
    template = max(1, finished // 200)
    await drain.drain(template, drain.FULL_BATCH, plain=False, kilobytes=False, file=file)
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        refs, first_id = connection.execute("SELECT max(ref), min(id) FROM stepwell_runs").fetchone()
        copies = -(-finished // template)
        for begin in range(1, copies, COPIED_AT_ONCE):
            connection.execute("BEGIN IMMEDIATE")
            for copy in range(begin, min(begin + COPIED_AT_ONCE, copies)):
                changed = {"ref": f"ref + {copy * refs}", "id": OLDER_ID.format(first=int(first_id[:8], 16), copy=copy)}
                for table in COPIED_TABLES:
                    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
                    values = ", ".join(changed.get(column, column) for column in columns)
                    connection.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE ref <= {refs}")
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
