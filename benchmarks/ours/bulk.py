"""Many runs or signals at once, in one process: from the first call to the last answer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks.ours.settled import none_left
from stepwell import Durable, durable

if TYPE_CHECKING:
    from stepwell import Context

CONCURRENCY = 256
PATIENCE_SECONDS = 120


async def _work(ctx: Context) -> int:
    return 1


async def many(url: str, runs: int) -> dict[str, float]:
    """Seconds from before `start_many` of one-step runs to the last of their results."""
    return await _started_to_results(url, runs, "single")


async def children(url: str, runs: int) -> dict[str, float]:
    """The same of parents that start a child of one step each, and wait for it."""
    return await _started_to_results(url, runs, "parent")


async def _started_to_results(url: str, runs: int, name: str) -> dict[str, float]:
    flows = [durable("single").step("work", _work), durable("parent").child_workflow("child", "single")]
    async with Durable(url, flows) as app, app.worker(concurrency=CONCURRENCY):
        await app.result((await app.start(name)).run_id, timeout=PATIENCE_SECONDS)
        began = time.perf_counter()
        started = await app.start_many(name, [None] * runs)
        results = await asyncio.gather(*(app.result(one.run_id, timeout=PATIENCE_SECONDS) for one in started))
        seconds = time.perf_counter() - began
    assert len(results) == runs
    return {"seconds": seconds}


async def signals(url: str, signals: int) -> dict[str, float]:
    """Signals accepted a second, sent at once to runs that are parked on them; no worker is there to take them up."""
    flow = durable("waiting").wait_for_signal("answer", "answer")
    async with Durable(url, [flow]) as app:
        started = await app.start_many(flow, [None] * signals)
        async with app.worker(concurrency=CONCURRENCY):
            await none_left(app)
        began = time.perf_counter()
        answers = await asyncio.gather(*(app.signal(one.run_id, "answer", 1) for one in started))
        seconds = time.perf_counter() - began
    assert all(answer.accepted for answer in answers)
    return {"signals_per_second": signals / seconds}
