"""How long a small write of another process waits while a worker drains at full speed on the same file."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.child import child, input_ended, say
from benchmarks.figures import Figure, Line, Note, quantile
from benchmarks.ours.drain import BATCH, workflow
from stepwell import Durable

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "writes: `start` while a worker drains"
PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: `writes`, as long as the worker still has some of `runs` to drain."""

    runs: int
    writes: int
    rounds: int


TINY = Size(runs=500, writes=5, rounds=1)
SHORT = Size(runs=10_000, writes=200, rounds=1)
FULL = Size(runs=40_000, writes=1_000, rounds=3)


def measure(size: Size) -> Iterator[Line]:
    """Milliseconds of one `start` from another process."""
    rounds = [_times(size) for _ in range(size.rounds)]
    yield Figure("median", [quantile(times, 0.5) for times in rounds], "ms", 2)
    yield Figure("99th percentile", [quantile(times, 0.99) for times in rounds], "ms", 2)
    yield Figure("longest", [max(times) for times in rounds], "ms", 2)
    fewest = min(len(times) for times in rounds)
    if fewest < size.writes:
        yield Note(f"the runs were drained after {fewest} of {size.writes} writes")


def _times(size: Size) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="stepwell-writes-") as folder:
        file = str(Path(folder) / "store.db")
        with child("details.writes:work", file=file, runs=size.runs) as worker:
            worker.wait_for("draining")
            times = asyncio.run(_write(file, size.writes))
            worker.kill()
            return times


async def work(file: str, runs: int) -> None:
    """Starts the runs and drains them until its input ends."""
    begun = 0

    def on_last() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            say("draining")

    flow = workflow(on_last)
    async with Durable(f"sqlite:///{file}", [flow]) as app:
        await app.start_many(flow, [None] * runs)
        async with app.worker(concurrency=BATCH):
            await input_ended()


async def _write(file: str, writes: int) -> list[float]:
    """Milliseconds of each write until there were enough of them, or nothing is left to drain."""
    flow = workflow(lambda: None)
    times: list[float] = []
    async with Durable(f"sqlite:///{file}", [flow]) as app:
        await app.start(flow)
        while len(times) < writes:
            began = time.perf_counter()
            await app.start(flow)
            times.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(PAUSE_SECONDS)
            if not await app.list(status="pending", limit=1):
                break
    return times
