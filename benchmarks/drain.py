"""How fast one worker process drains runs of trivial steps, beside the raw limit of SQLite in the same rounds.

Everything the engine promises is in place: default settings, a file with WAL and synchronous=FULL, fences, the beat
and the look-out for other processes. Only `concurrency` differs. Starting the runs is not measured.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from benchmarks import raw
from benchmarks.child import call_in_child
from benchmarks.figures import Figure, Line, ratios
from stepwell import Durable, durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepwell import Context, Workflow

TITLE = "drain: runs of 10 trivial steps, one worker"
STEPS_PER_RUN = 10
FULL_BATCH = 256
RAW_TIMES = 3
"""The raw limit writes so many times the steps of a drain: it is that much faster, and is to take long enough."""
KILOBYTE = "x" * 1022
"""1 KB as JSON, with its quotes."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: `runs` a round, fewer where the concurrency is small."""

    runs: int
    rounds: int
    variant_rounds: int


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to drain: how many handlers at once, whether they are plain functions, whether they return 1 KB."""

    concurrency: int = FULL_BATCH
    plain: bool = False
    kilobytes: bool = False


class Drained(TypedDict):
    """What one drain gave; microseconds of CPU time per step, of the event loop's thread and of the whole process."""

    steps_per_second: float
    loop_micros: float
    cpu_micros: float


TINY = Size(runs=20, rounds=1, variant_rounds=1)
SHORT = Size(runs=2_000, rounds=5, variant_rounds=1)
FULL = Size(runs=2_000, rounds=11, variant_rounds=5)

MAIN = Variant()
VARIANTS = {
    "plain handlers, in threads": Variant(plain=True),
    "results of 1 KB": Variant(kilobytes=True),
    "concurrency 16": Variant(16),
    "concurrency 1": Variant(1),
}


def measure(size: Size) -> Iterator[Line]:
    """The plain case beside the raw limit, then the variants beside theirs."""
    drained, limits = beside_raw(MAIN, size.runs, size.rounds)
    yield Figure(f"async handlers, concurrency {FULL_BATCH}", [one["steps_per_second"] for one in drained], "steps/s")
    yield Figure(f"  raw limit, batches of {FULL_BATCH}", [one.steps_per_second for one in limits], "steps/s")
    yield _share(drained, limits)
    yield Figure("  CPU time, event loop's thread", [one["loop_micros"] for one in drained], "µs/step", 1)
    yield Figure("  CPU time, whole process", [one["cpu_micros"] for one in drained], "µs/step", 1)
    yield Figure("  CPU time, raw limit", [one.cpu_micros for one in limits], "µs/step", 1)
    for what, variant in VARIANTS.items():
        drained, limits = beside_raw(variant, size.runs, size.variant_rounds)
        yield Figure(what, [one["steps_per_second"] for one in drained], "steps/s")
        yield _share(drained, limits)


def beside_raw(variant: Variant, runs: int, rounds: int) -> tuple[list[Drained], list[raw.Limit]]:
    """What a fresh worker process reached, and the raw limit before and after it, in batches as large."""
    runs = max(1, runs * min(variant.concurrency, 64) // 64)
    drained, limits = [], []
    for _ in range(rounds):
        before = _limit(variant, runs)
        drained.append(call_in_child("drain:drain", runs=runs, **asdict(variant)))
        after = _limit(variant, runs)
        limits.append(raw.Limit(*(statistics.mean(pair) for pair in zip(before, after, strict=True))))
    return drained, limits


def _limit(variant: Variant, runs: int) -> raw.Limit:
    return raw.limit(RAW_TIMES * runs * STEPS_PER_RUN, variant.concurrency, 1024 if variant.kilobytes else 1)


def _share(drained: list[Drained], limits: list[raw.Limit]) -> Figure:
    shares = ratios((one["steps_per_second"] for one in drained), (one.steps_per_second for one in limits))
    return Figure("  share of the raw limit", [100 * share for share in shares], "%", 1)


def workflow(on_last: Callable[[], None], *, plain: bool = False, kilobytes: bool = False) -> Workflow:
    """A workflow of ten trivial steps that calls `on_last` in the last one."""
    value: Any = KILOBYTE if kilobytes else 1

    async def work(ctx: Context) -> Any:
        return value

    async def last(ctx: Context) -> Any:
        on_last()
        return value

    def work_in_a_thread(ctx: Context) -> Any:
        return value

    def last_in_a_thread(ctx: Context) -> Any:
        on_last()
        return value

    made = durable("drain")
    for number in range(1, STEPS_PER_RUN):
        made.step(f"step_{number}", work_in_a_thread if plain else work)
    return made.step(f"step_{STEPS_PER_RUN}", last_in_a_thread if plain else last)


async def drain(runs: int, concurrency: int, *, plain: bool, kilobytes: bool, file: str | None = None) -> Drained:
    """Starts the runs, in a new file unless one is named, and times a worker until all are stored as completed."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    ended = itertools.count(1)

    def on_last() -> None:
        if next(ended) == runs:
            loop.call_soon_threadsafe(done.set)

    flow = workflow(on_last, plain=plain, kilobytes=kilobytes)
    with tempfile.TemporaryDirectory(prefix="stepwell-drain-") as folder:
        file = file or str(Path(folder) / "store.db")
        async with Durable(f"sqlite:///{file}", [flow]) as app:
            await app.start_many(flow, [{"number": number} for number in range(runs)])
            stored = count(file)
            began, loop_began, cpu_began = time.perf_counter(), time.thread_time(), time.process_time()
            async with app.worker(concurrency=concurrency):
                await done.wait()
                while await app.list(status="running", limit=1):
                    continue
                seconds = time.perf_counter() - began
                loop_seconds, cpu_seconds = time.thread_time() - loop_began, time.process_time() - cpu_began
        steps = runs * STEPS_PER_RUN
        assert count(file) == (stored[0] + runs, stored[1] + steps), "not every run completed with a row for each step"
    return {
        "steps_per_second": steps / seconds,
        "loop_micros": loop_seconds / steps * 1e6,
        "cpu_micros": cpu_seconds / steps * 1e6,
    }


def count(file: str) -> tuple[int, int]:
    """How many runs have completed in the file, and how many steps."""
    connection = sqlite3.connect(file)
    runs: int = connection.execute("SELECT count(*) FROM stepwell_runs WHERE status = 'completed'").fetchone()[0]
    steps: int = connection.execute("SELECT count(*) FROM stepwell_entries WHERE status = 'completed'").fetchone()[0]
    connection.close()
    return runs, steps
