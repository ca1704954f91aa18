"""The least that each case writes, in the largest batches that it allows, timed."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.limits.rows import rows

BATCH = 256
STEPS_PER_RUN = 10
TIMES = 3
"""A drain writes so many times the steps of ours: it is that much faster, and is to take long enough."""


async def drained(url: str, runs: int, result_bytes: int = 1, concurrency: int = BATCH) -> dict[str, float]:
    """Steps a second in batches of 256 runs; on SQLite the better of two ways to write a batch."""
    steps = runs * STEPS_PER_RUN * (TIMES if result_bytes < BATCH else 1)
    found = [await _drained(url, steps, result_bytes, concurrency, by_values=True)]
    if url.startswith("sqlite"):
        with tempfile.TemporaryDirectory(prefix="stepwell-limit-") as folder:
            other = f"sqlite:///{Path(folder) / 'raw.db'}"
            found.append(await _drained(other, steps, result_bytes, concurrency, by_values=False))
    return max(found, key=lambda one: one["steps_per_second"])


async def _drained(url: str, steps: int, result_bytes: int, batch: int, *, by_values: bool) -> dict[str, float]:
    value = b"1" * result_bytes
    rounds = max(1, round(steps / (batch * STEPS_PER_RUN)))
    async with rows(url, by_values=by_values) as table:
        started = [await table.start(batch) for _ in range(rounds)]
        began, cpu_began = time.perf_counter(), time.process_time()
        for refs in started:
            for seq in range(1, STEPS_PER_RUN + 1):
                await table.step(refs, seq, value)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    written = rounds * batch * STEPS_PER_RUN
    return {"steps_per_second": written / seconds, "process_micros": cpu_seconds / written * 1e6}


async def alone(url: str, runs: int, steps: int) -> dict[str, float]:
    """A run inserted, then a transaction for each of its steps, one run after the other."""
    times = []
    async with rows(url) as table:
        for _ in range(runs):
            began = time.perf_counter()
            refs = await table.start(1)
            for seq in range(1, steps + 1):
                await table.step(refs, seq, b"1")
            times.append((time.perf_counter() - began) * 1_000)
    return {"p50_ms": statistics.median(times), "p99_ms": statistics.quantiles(times, n=100, method="inclusive")[98]}


async def parallel(url: str, entries: int, runs: int) -> dict[str, float]:
    """A run inserted, then the entries' rows in one transaction; the median of some runs."""
    times = []
    async with rows(url) as table:
        for _ in range(runs):
            began = time.perf_counter()
            (ref,) = await table.start(1)
            await table.entries(ref, 1, entries)
            times.append((time.perf_counter() - began) * 1_000)
    return {"p50_ms": statistics.median(times)}


async def many(url: str, runs: int) -> dict[str, float]:
    """The runs inserted in one transaction, then their one step in batches of 256."""
    async with rows(url) as table:
        began = time.perf_counter()
        await _step(table, await table.start(runs), 1)
        return {"seconds": time.perf_counter() - began}


async def children(url: str, runs: int) -> dict[str, float]:
    """Parents and their children inserted, the children's step and their parents' outcome, in batches of 256."""
    async with rows(url) as table:
        began = time.perf_counter()
        parents = await table.start(runs)
        await _step(table, await table.start(runs), 1)
        await _step(table, parents, 1)
        return {"seconds": time.perf_counter() - began}


async def signals(url: str, signals: int) -> dict[str, float]:
    """Messages a second in batches of 256."""
    async with rows(url) as table:
        refs = await table.start(signals)
        began = time.perf_counter()
        for first in range(0, signals, BATCH):
            await table.signal(refs[first : first + BATCH], b"1")
        return {"signals_per_second": signals / (time.perf_counter() - began)}


async def _step(table: Any, refs: list[Any], seq: int) -> None:
    for first in range(0, len(refs), BATCH):
        await table.step(refs[first : first + BATCH], seq, b"1")
