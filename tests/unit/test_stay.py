"""A long run beside others that wait for room: it makes a call, and lets them in after a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell import Durable, durable
from tests.moving_clock import SteadyClock
from tests.waiting import eventually

if TYPE_CHECKING:
    from stepwell import Context

RUNS = 4


async def order_of_calls(seconds: float) -> list[tuple[str, int]]:
    """The calls of several runs with room for two, each of whose steps takes so many seconds."""
    clock, calls = SteadyClock(), list[tuple[str, int]]()

    async def work(ctx: Context) -> None:
        clock.go_on(seconds)
        calls.append((ctx.step, ctx.input))

    workflow = durable("long").step("first", work).step("second", work).step("last", work)
    async with Durable("sqlite://", workflows=[workflow], runtime=clock) as app:
        await app.start_many(workflow, range(RUNS))
        async with app.worker(concurrency=1):

            async def ended() -> bool:
                return len(await app.list(status="completed")) == RUNS

            await eventually(ended)
    return calls


async def test_runs_whose_steps_take_long_let_others_in() -> None:
    calls = await order_of_calls(2)
    begun = [number for number, (step, _) in enumerate(calls) if step == "first"]
    ended = [number for number, (step, _) in enumerate(calls) if step == "last"]
    assert max(begun) < min(ended)


async def test_a_run_that_is_soon_through_goes_to_its_end_first() -> None:
    calls = await order_of_calls(0)
    assert calls.index(("last", 0)) < calls.index(("first", RUNS - 1))
