"""What is done to its end although its caller is cancelled meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from stepwell.engine.fleet.leaving import through_cancels


async def test_without_a_cancel_it_gives_what_the_work_gives() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 42

    assert await through_cancels(work()) == 42


async def test_without_a_cancel_it_raises_what_the_work_raises() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await through_cancels(work())


@pytest.mark.parametrize("fails", [True, False])
async def test_a_cancel_of_the_caller_is_raised_once_the_work_has_ended(*, fails: bool) -> None:
    begun, let, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await let.wait()
        ended.set()
        if fails:
            raise ValueError("no")

    caller = asyncio.create_task(through_cancels(work()))
    await begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not caller.done()
    let.set()
    with pytest.raises(asyncio.CancelledError) as raised:
        await caller
    assert ended.is_set()
    assert isinstance(raised.value.__cause__, ValueError) == fails
