"""Ten sub-steps of one handler beside ten steps, from the first start to the last result."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from stepwell import Durable, durable

if TYPE_CHECKING:
    from stepwell import Context, Workflow

PIECES = 10
CONCURRENCY = 256
PATIENCE_SECONDS = 120


async def _work(ctx: Context) -> int:
    return 1


async def _give() -> int:
    return 1


async def _work_on(ctx: Context) -> int:
    return sum([await ctx.run("piece", _give) for _ in range(PIECES)])


async def sub_steps(url: str, runs: int) -> dict[str, float]:
    """Sub-steps a second."""
    return await _pieces_per_second(url, durable("pieces").step("work", _work_on), runs)


async def steps(url: str, runs: int) -> dict[str, float]:
    """Steps a second, on the flat path."""
    flow = durable("pieces")
    for number in range(PIECES):
        flow.step(f"step_{number}", _work)
    return await _pieces_per_second(url, flow, runs)


async def steps_of_the_general_path(url: str, runs: int) -> dict[str, float]:
    """Steps a second that have a condition, so that none takes the flat path."""
    flow = durable("pieces")
    for number in range(PIECES):
        flow.step(f"step_{number}", _work, when=lambda _: True)
    return await _pieces_per_second(url, flow, runs)


async def _pieces_per_second(url: str, flow: Workflow, runs: int) -> dict[str, float]:
    async with Durable(url, [flow]) as app, app.worker(concurrency=CONCURRENCY):
        await app.result((await app.start(flow.name)).run_id, timeout=PATIENCE_SECONDS)
        began = time.perf_counter()
        started = await app.start_many(flow.name, [None] * runs)
        await asyncio.gather(*(app.result(one.run_id, timeout=PATIENCE_SECONDS) for one in started))
        seconds = time.perf_counter() - began
    return {"steps_per_second": runs * PIECES / seconds}
