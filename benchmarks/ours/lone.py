"""One run when nothing else is going on, from before its `start` to the return of `result`; the worker is in here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.figures import quantile
from stepwell import Durable, durable

if TYPE_CHECKING:
    from stepwell import Context, Workflow

WARM_UP = 10
PATIENCE_SECONDS = 60


async def alone(url: str, runs: int, steps: int) -> dict[str, float]:
    """Milliseconds of runs of so many trivial steps, one after the other."""
    flow = durable("alone")
    for number in range(1, steps + 1):
        flow.step(f"step_{number}", _work)
    times = await _times(url, flow, runs)
    return {"p50_ms": quantile(times, 0.5), "p99_ms": quantile(times, 0.99)}


async def parallel(url: str, runs: int, entries: int) -> dict[str, float]:
    """Milliseconds of runs of one parallel, one after the other."""
    flow = durable("parallel").parallel("all", {f"entry_{number}": _work for number in range(entries)})
    return {"p50_ms": quantile(await _times(url, flow, runs), 0.5)}


async def _work(ctx: Context) -> int:
    return 1


async def _times(url: str, flow: Workflow, runs: int) -> list[float]:
    """Milliseconds of each run, after some that are not counted."""
    times = []
    async with Durable(url, [flow]) as app, app.worker():
        for _ in range(WARM_UP + runs):
            began = time.perf_counter()
            started = await app.start(flow)
            await app.result(started.run_id, timeout=PATIENCE_SECONDS)
            times.append((time.perf_counter() - began) * 1_000)
    return times[WARM_UP:]
