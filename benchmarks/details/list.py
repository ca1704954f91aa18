"""How long a page of `list` takes over many stored runs, by each filter and pair of filters, on both stores.

The runs are written by set-based SQL: nine in ten completed and of one workflow, three suspended, one of a workflow of
its own; one in ten with a key, one in twenty a child.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.database import connected, database, fresh_schema
from benchmarks.figures import Figure, Line, quantile
from stepwell import Durable, durable
from tests.postgres import with_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "list: a page of 100 over many stored runs"
COLUMNS = """id, lane, workflow, key, status, position, token, seq, mail, crashes, parent_id, parent_node, created_at,
    updated_at"""
SQLITE = f"""
WITH RECURSIVE g (g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM g WHERE g < {{0}})
INSERT INTO stepwell_runs (ref, {COLUMNS})
SELECT g + 10, printf('%08x-0000-7000-8000-%012x', g, g), 1,
    CASE WHEN g = 7 THEN 'alone' WHEN g % 10 = 0 THEN 'flow' || (g % 50) ELSE 'much' END,
    CASE WHEN g % 10 = 3 THEN 'key' || (g / 1000) || '/' || (g % 1000) END,
    CASE WHEN g < 4 THEN 'suspended' WHEN g % 10 < 9 THEN 'completed' WHEN g % 1000 = 9 THEN 'failed'
        ELSE 'running' END,
    1, 1, 1, 0, 0, CASE WHEN g % 20 = 5 THEN printf('%08x-0000-7000-8000-%012x', g / 400 * 400, g / 400 * 400) END,
    CASE WHEN g % 20 = 5 THEN 'kid' END, g, g
FROM g
"""
POSTGRES = f"""
INSERT INTO {{1}}.runs ({COLUMNS})
SELECT (lpad(to_hex(g), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(g), 12, '0'))::uuid, 1,
    CASE WHEN g = 7 THEN 'alone' WHEN g % 10 = 0 THEN 'flow' || (g % 50) ELSE 'much' END,
    CASE WHEN g % 10 = 3 THEN 'key' || (g / 1000) || '/' || (g % 1000) END,
    CASE WHEN g < 4 THEN 'suspended' WHEN g % 10 < 9 THEN 'completed' WHEN g % 1000 = 9 THEN 'failed'
        ELSE 'running' END,
    1, 1, 1, 0, 0,
    CASE WHEN g % 20 = 5
        THEN (lpad(to_hex(g / 400 * 400), 8, '0') || '-0000-7000-8000-'
            || lpad(to_hex(g / 400 * 400), 12, '0'))::uuid END,
    CASE WHEN g % 20 = 5 THEN 'kid' END, g, g
FROM generate_series(1, {{0}}) AS g
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How many `runs` are stored, and how often each page is asked for."""

    runs: int
    rounds: int


TINY = Size(runs=2_000, rounds=2)
SHORT = Size(runs=200_000, rounds=10)
FULL = Size(runs=1_000_000, rounds=30)


def measure(size: Size) -> Iterator[Line]:
    """Milliseconds of a page by each filter and pair, the common and the rare values of each."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_on_a_file(Path(folder) / "list.db", size))
    yield from _lines("SQLite", found)
    with database() as dsn:
        found = asyncio.run(_on_a_server(dsn, size))
    yield from _lines("PostgreSQL", found)


def _lines(store: str, found: dict[str, list[float]]) -> Iterator[Line]:
    for name, times in found.items():
        yield Figure(f"{store}: {name}", times, "ms", 2)
    yield Figure(f"{store}: the slowest of these", [max(quantile(times, 0.5) for times in found.values())], "ms", 2)


def pages(runs: int) -> dict[str, dict[str, Any]]:
    """Every filter and pair, with values that many runs have, and those that few have, by what they are called."""

    def run_id(number: int) -> str:
        return f"{number:08x}-0000-7000-8000-{number:012x}"

    middle = runs // 800 * 400
    values: dict[str, list[Any]] = {
        "status": ["completed", "failed", "suspended", "canceled"],
        "workflow": ["much", "flow20", "alone", "nobody"],
        "key": [f"key{runs // 2 // 1000}/503", "none"],
        "parent_run_id": [run_id(middle), run_id(1)],
        "before": [run_id(middle), run_id(5)],
    }
    asked: dict[str, dict[str, Any]] = {"all": {}}
    for names in (*((name,) for name in values), *combinations(values, 2)):
        chosen: list[dict[str, Any]] = [{}]
        for name in names:
            chosen = [{**before, name: value} for before in chosen for value in values[name]]
        for one in chosen:
            shown = {
                key: value if key in {"status", "workflow", "key"} else values[key].index(value)
                for key, value in one.items()
            }
            asked[", ".join(f"{key}={value}" for key, value in shown.items())] = one
    return asked


async def _asked(app: Durable, size: Size) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    for name, wanted in pages(size.runs).items():
        await app.list(**wanted)  # its pages are in memory, as those of a list that is looked at are
        times[name] = []
        for _ in range(size.rounds):
            began = time.perf_counter()
            await app.list(**wanted)
            times[name].append((time.perf_counter() - began) * 1000)
    return times


def _flow() -> Any:
    return durable("much").step("one", lambda ctx: 1)


async def _on_a_file(path: Path, size: Size) -> dict[str, list[float]]:
    url = f"sqlite:///{path}"
    async with Durable(url, [_flow()]) as app:
        await app.start("much", delay=1e9)  # its lane is the first
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(SQLITE.format(size.runs))
        connection.commit()
    async with Durable(url, [_flow()]) as app:
        return await _asked(app, size)


async def _on_a_server(dsn: str, size: Size) -> dict[str, list[float]]:
    async with fresh_schema(dsn) as schema:
        url = with_schema(dsn, schema)
        async with Durable(url, [_flow()]) as app:
            await app.start("much", delay=1e9)
        async with connected(dsn) as connection:
            await connection.execute(POSTGRES.format(size.runs, schema), timeout=600)
            await connection.execute(f"ANALYZE {schema}.runs")
        async with Durable(url, [_flow()]) as app:
            return await _asked(app, size)
