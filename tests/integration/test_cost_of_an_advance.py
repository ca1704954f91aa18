"""What an advance costs does not grow with what is behind it: operations are counted, no time is measured.

Twice the entries, iterations or nodes take about twice the operations, not four times.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Branch, RunFailedError, durable
from tests.api.handlers import nothing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell import Context, Workflow

SIZE = 200
MOST_TIMES = 2.2
TURNS = 6
"""Turns of the loop in which a run takes in that an entry has ended, so that it does so for each by itself."""


async def operations(work: Callable[[], Awaitable[Any]]) -> int:
    """How many functions, Python's own included, are called while the work is done."""
    counted = Counter[str]()

    def count(frame: object, event: str, argument: object) -> None:
        counted[event] += 1

    sys.setprofile(count)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return counted["call"] + counted["c_call"]


def one_after_the_other(size: int, *, failing: bool = False, retrying: bool = False) -> Workflow:
    """A parallel whose entries end one by one, each in a turn of the loop of its own; the last one may fail."""
    turns: list[asyncio.Event] = []

    def entry(at: int) -> Callable[[Context], Awaitable[int]]:
        async def handle(ctx: Context) -> int:
            if not turns:
                turns.extend(asyncio.Event() for _ in range(size + 1))
                turns[0].set()
            if retrying and ctx.attempt == 1:
                raise ValueError("again")
            await turns[at].wait()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            turns[at + 1].set()
            if failing and at == size - 1:
                raise Abort("the last one fails")
            return at

        return handle

    return durable("wide").parallel(
        "wide",
        {f"entry{at}": Branch(entry(at), compensate=nothing) for at in range(size)},
        max_retries=1,
        retry_backoff=0.001,
    )


async def to_its_end(workflow: Workflow) -> None:
    try:
        await workflow.run()
    except RunFailedError as failed:
        if failed.error.type != "Abort":
            raise


@pytest.mark.parametrize("how", [{}, {"failing": True}, {"retrying": True}], ids=["completes", "is undone", "retries"])
async def test_twice_the_entries_of_a_parallel_cost_about_twice_as_much(how: dict[str, bool]) -> None:
    await to_its_end(one_after_the_other(4, **how))
    once, twice = [await operations(partial(to_its_end, one_after_the_other(size, **how))) for size in (SIZE, 2 * SIZE)]
    assert twice < MOST_TIMES * once
