"""The resident memory that a worker gains by runs, parked or in flight; the runs are started by another process.

Some runs come before the memory is read for the first time, so that code, caches and buffers are not counted.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.child import Child, child, input_ended, say
from stepwell import Durable, durable

if TYPE_CHECKING:
    from stepwell import Context, Workflow

AT_ONCE = 1_000
POLL_SECONDS = 0.05


def workflows(in_flight: int = 0) -> list[Workflow]:
    """Runs that are parked after a step, in two ways, and runs whose handler waits for ever.

    The worker says `N in flight` when as many handlers wait as are to, and again at each multiple of that.
    """
    begun = 0

    async def work(ctx: Context) -> int:
        return 1

    async def wait(ctx: Context) -> None:
        nonlocal begun
        begun += 1
        if in_flight and begun % in_flight == 0:
            say(f"{begun} in flight")
        await asyncio.Event().wait()

    return [
        durable("asleep").step("before", work).sleep("rest", timedelta(hours=1)).step("after", work),
        durable("waiting").step("before", work).wait_for_signal("answer", "answer").step("after", work),
        durable("busy").step("wait", wait),
    ]


async def work(url: str, concurrency: int, in_flight: int = 0) -> None:
    """Is a worker until its input ends."""
    async with Durable(url, workflows(in_flight)) as app, app.worker(concurrency=concurrency, grace=0):
        say("ready")
        await input_ended()


async def parked(url: str, runs: int, before: int) -> dict[str, float]:
    """Kilobytes gained a run by runs that sleep, then by runs that wait for a signal."""
    found = {}
    for way in ("asleep", "waiting"):
        with child("ours.memory:work", url=url, concurrency=100) as worker:
            worker.wait_for("ready")
            await _park(url, way, before)
            first = _resident_kilobytes(worker)
            await _park(url, way, runs)
            found[f"{way}_kilobytes"] = (_resident_kilobytes(worker) - first) / runs
    return found


async def in_flight(url: str, runs: int) -> dict[str, float]:
    """Kilobytes a run of a worker whose handlers all wait, from the first half of them to the second."""
    half = runs // 2
    with child("ours.memory:work", url=url, concurrency=runs, in_flight=half) as worker:
        worker.wait_for("ready")
        async with Durable(url, workflows()) as app:
            await app.start_many("busy", [None] * half)
            await asyncio.to_thread(worker.wait_for, f"{half} in flight")
            first = _resident_kilobytes(worker)
            await app.start_many("busy", [None] * half)
            await asyncio.to_thread(worker.wait_for, f"{2 * half} in flight")
            return {"kilobytes": (_resident_kilobytes(worker) - first) / half}


def _resident_kilobytes(process: Child) -> float:
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


async def _park(url: str, way: str, runs: int) -> None:
    """Starts the runs and waits until each of them is parked."""
    async with Durable(url, workflows()) as app:
        started: set[str] = set()
        while len(started) < runs:
            some = min(AT_ONCE, runs - len(started))
            started |= {one.run_id for one in await app.start_many(way, [None] * some)}
        while started:
            await asyncio.sleep(POLL_SECONDS)
            newest = await app.list(workflow=way, limit=runs)
            started -= {run.run_id for run in newest if run.wake_at is not None or run.awaiting_signal is not None}
