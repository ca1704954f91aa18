"""What counts as an attempt's time: by clocks that only the test moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stepwell import Durable, durable
from tests.moving_clock import SteadyClock
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from stepwell import Context

LIMIT = 60


async def test_the_wait_for_a_slot_is_no_part_of_an_attempts_time() -> None:
    """Else a worker with more to do than slots would fail what it has not yet begun."""
    clock = SteadyClock()

    async def work(ctx: Context) -> str:
        clock.go_on(LIMIT - 10)
        for _ in range(10):
            await asyncio.sleep(0)
        return ctx.step

    entries = dict.fromkeys("abc", work)
    flow = durable("flow").parallel("all", entries, timeout=LIMIT, max_retries=0)
    async with Durable("sqlite://", [flow], runtime=clock) as app, app.worker(concurrency=1):
        started = await app.start("flow")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"a": "a", "b": "b", "c": "c"}
