"""What memory a worker gains by runs that are parked: asleep for an hour, or waiting for a signal.

The runs are started by another process; the worker claims each, works on its first step and parks it. The worker parks
some runs before its memory is read for the first time, so that code, caches and buffers of its own are not counted.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.child import child, input_ended, say
from benchmarks.figures import Figure, Line, Note
from stepwell import Durable, durable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell import Context, Workflow

TITLE = "parked: resident memory of the worker"
WAYS = {"asleep": "asleep for an hour", "waiting": "waiting for a signal"}
POLL_SECONDS = 0.05
AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: `runs` parked after `before` others."""

    runs: int
    before: int
    rounds: int


TINY = Size(runs=40, before=10, rounds=1)
SHORT = Size(runs=10_000, before=1_000, rounds=1)
FULL = Size(runs=10_000, before=1_000, rounds=3)


def measure(size: Size) -> Iterator[Line]:
    """Megabytes gained by the parked runs."""
    if not Path("/proc/self/statm").exists():
        yield Note(f"not measured: {sys.platform} has no /proc to read a process's memory from")
        return
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(size.rounds):
        for way, rounds in found.items():
            rounds.append(_memory(way, size))
    for way, rounds in found.items():
        yield Figure(f"{size.runs:,} {WAYS[way]}: gained", [after - before for before, after in rounds], "MB", 2)
        yield Figure("  before", [before for before, _ in rounds], "MB", 1)
        yield Figure("  after", [after for _, after in rounds], "MB", 1)


def _memory(way: str, size: Size) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="stepwell-parked-") as folder:
        file = str(Path(folder) / "store.db")
        with child("parked:work", file=file) as worker:
            worker.wait_for("ready")
            asyncio.run(_park(file, way, size.before))
            before = _resident_megabytes(worker.pid)
            asyncio.run(_park(file, way, size.runs))
            return before, _resident_megabytes(worker.pid)


def _resident_megabytes(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def workflows() -> list[Workflow]:
    """Two workflows that work a little and are then parked, in two ways."""

    async def work(ctx: Context) -> int:
        return 1

    return [
        durable("asleep").step("before", work).sleep("rest", timedelta(hours=1)).step("after", work),
        durable("waiting").step("before", work).wait_for_signal("answer", "answer").step("after", work),
    ]


async def work(file: str) -> None:
    """Is a worker until its input ends."""
    async with Durable(f"sqlite:///{file}", workflows()) as app, app.worker():
        say("ready")
        await input_ended()


async def _park(file: str, way: str, runs: int) -> None:
    """Starts the runs and waits until each of them is parked."""
    async with Durable(f"sqlite:///{file}", workflows()) as app:
        started: set[str] = set()
        while len(started) < runs:
            inputs = [{"number": number} for number in range(min(AT_ONCE, runs - len(started)))]
            started |= {one.run_id for one in await app.start_many(way, inputs)}
        while started:
            await asyncio.sleep(POLL_SECONDS)
            newest = await app.list(workflow=way, limit=runs)
            started -= {run.run_id for run in newest if run.wake_at is not None or run.awaiting_signal is not None}
