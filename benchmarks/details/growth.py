"""Whether an advance costs more when more is behind it: wide parallels, and long loops with a pause, on both stores."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.database import database
from benchmarks.figures import Figure, Line
from stepwell import Durable, durable
from tests.postgres import with_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell import Context

TITLE = "growth: what is behind an advance"
PARTS = 10
"""The first and the last of so many parts of a loop are compared."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: a parallel of so many `entries`, a loop of so many `iterations`, in so many `rounds`."""

    entries: int
    iterations: int
    rounds: int


TINY = Size(entries=10, iterations=10, rounds=1)
SHORT = Size(entries=2_000, iterations=2_000, rounds=1)
FULL = Size(entries=2_000, iterations=10_000, rounds=3)


def measure(size: Size) -> Iterator[Line]:
    """Seconds for a whole parallel, and milliseconds for an iteration at the beginning and at the end of a loop."""
    for where in ("SQLite", "PostgreSQL"):
        with _store(where) as url:
            wide = [asyncio.run(_parallel(url, size.entries)) for _ in range(size.rounds)]
            loops = [asyncio.run(_loop(url, size.iterations)) for _ in range(size.rounds)]
        yield Figure(f"{where}: a parallel of {size.entries:,}", wide, "s", 2)
        yield Figure(f"{where}: a loop of {size.iterations:,} with a pause", [sum(one) for one in loops], "s", 1)
        part = max(size.iterations // PARTS, 1)
        for what, some in (("first", slice(part)), ("last", slice(-part, None))):
            yield Figure(f"  an iteration, the {what} {part:,}", [_milliseconds(one[some]) for one in loops], "ms", 2)


@contextlib.contextmanager
def _store(where: str) -> Iterator[str]:
    if where == "SQLite":
        with tempfile.TemporaryDirectory(prefix="stepwell-growth-") as folder:
            yield f"sqlite:///{Path(folder) / 'store.db'}"
    else:
        with database() as dsn:
            yield with_schema(dsn, "growth")


async def _work(ctx: Context) -> int:
    return 1


async def _parallel(url: str, entries: int) -> float:
    flow = durable("wide").parallel("wide", {f"entry{number}": _work for number in range(entries)})
    async with Durable(url, [flow]) as app, app.worker():
        began = time.perf_counter()
        run_id = (await app.start(flow)).run_id
        await app.result(run_id)
        return time.perf_counter() - began


async def _loop(url: str, iterations: int) -> list[float]:
    """Seconds from each iteration to the next; each is parked, and claimed again."""
    times: list[float] = []

    async def poll(value: Any, ctx: Context) -> None:
        times.append(time.perf_counter())

    flow = durable("long").loop("poll", poll, max_iterations=iterations, pause=0.001)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await app.result(run_id)
    return [later - sooner for sooner, later in itertools.pairwise(times)]


def _milliseconds(seconds: list[float]) -> float:
    return 1_000 * sum(seconds) / len(seconds)
