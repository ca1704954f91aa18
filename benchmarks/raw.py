"""The raw limit of SQLite: one journal row inserted and one run row updated per step, and nothing else.

One connection, one thread, WAL, synchronous=FULL; no ids to make, no fences, no codec, no handler, no second index.
Both ways to write a batch are tried, `executemany` and one statement with many VALUES, and the better one counts.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from benchmarks.child import call_in_child
from benchmarks.figures import Figure, Line

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "raw: what SQLite itself can write"
BATCHES = (256, 16, 1)
STEPS_PER_RUN = 10
SCHEMA = """
CREATE TABLE runs (ref INTEGER PRIMARY KEY, seq INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;
CREATE TABLE journal (
    ref INTEGER NOT NULL, seq INTEGER NOT NULL, node TEXT NOT NULL, value BLOB, finished_at INTEGER NOT NULL,
    PRIMARY KEY (ref, seq)
) STRICT, WITHOUT ROWID;
"""
INSERT = "INSERT INTO journal (ref, seq, node, value, finished_at) VALUES "
UPDATE = "UPDATE runs SET seq = ?, updated_at = ? WHERE ref = ?"
UPDATE_MANY = "UPDATE runs SET seq = v.column2, updated_at = v.column3 FROM (VALUES {}) AS v WHERE ref = v.column1"

Write: TypeAlias = Callable[[sqlite3.Connection, Sequence[int], int, bytes, int], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: `steps` in batches of 256, fewer in smaller ones."""

    steps: int
    rounds: int


TINY = Size(steps=2_560, rounds=1)
SHORT = Size(steps=51_200, rounds=3)
FULL = Size(steps=204_800, rounds=7)


class Limit(NamedTuple):
    """What was reached, and the CPU time it took in microseconds per step, the kernel's included."""

    steps_per_second: float
    cpu_micros: float


def measure(size: Size) -> Iterator[Line]:
    """Steps per second, by the size of the batch."""
    rounds: dict[int, list[Limit]] = {batch: [] for batch in BATCHES}
    for _ in range(size.rounds):
        for batch, found in rounds.items():
            found.append(limit(size.steps * min(batch, 64) // 64, batch))
    for batch, found in rounds.items():
        yield Figure(f"batches of {batch}", [one.steps_per_second for one in found], "steps/s")


def limit(steps: int, batch: int, value_bytes: int = 1) -> Limit:
    """The raw limit, measured in a fresh process over about so many steps."""
    return Limit(*call_in_child("raw:fastest", steps=steps, batch=batch, value_bytes=value_bytes))


def fastest(steps: int, batch: int, value_bytes: int) -> Limit:
    """The better of the two ways, each on a file of its own."""
    return max(_timed(write, steps, batch, value_bytes) for write in (_many, _values))


def _timed(write: Write, steps: int, batch: int, value_bytes: int) -> Limit:
    with tempfile.TemporaryDirectory(prefix="stepwell-raw-") as folder:
        connection = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(SCHEMA)
        runs = max(1, steps // (batch * STEPS_PER_RUN)) * batch
        connection.executemany("INSERT INTO runs VALUES (?, 0, 0)", ((ref,) for ref in range(runs)))
        value = b"1" * value_bytes
        began, cpu_began = time.perf_counter(), time.process_time()
        for first in range(0, runs, batch):
            refs = range(first, first + batch)
            for seq in range(1, STEPS_PER_RUN + 1):
                connection.execute("BEGIN IMMEDIATE")
                write(connection, refs, seq, value, time.time_ns() // 1000)
                connection.execute("COMMIT")
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        written = connection.execute("SELECT count(*) FROM journal").fetchone()[0]
        assert written == connection.execute("SELECT sum(seq) FROM runs").fetchone()[0] == runs * STEPS_PER_RUN
        connection.close()
    return Limit(written / seconds, cpu_seconds / written * 1e6)


def _many(connection: sqlite3.Connection, refs: Sequence[int], seq: int, value: bytes, now: int) -> None:
    node = f"step_{seq}"
    connection.executemany(f"{INSERT} (?, ?, ?, ?, ?)", [(ref, seq, node, value, now) for ref in refs])
    connection.executemany(UPDATE, [(seq, now, ref) for ref in refs])


def _values(connection: sqlite3.Connection, refs: Sequence[int], seq: int, value: bytes, now: int) -> None:
    node = f"step_{seq}"
    rows: list[object] = []
    runs: list[int] = []
    for ref in refs:
        rows += (ref, seq, node, value, now)
        runs += (ref, seq, now)
    connection.execute(INSERT + ", ".join(["(?, ?, ?, ?, ?)"] * len(refs)), rows)
    connection.execute(UPDATE_MANY.format(", ".join(["(?, ?, ?)"] * len(refs))), runs)
