"""Work that goes on although other code cancels its task, and ends with a loop that is being ended."""

from __future__ import annotations

import asyncio
from functools import partial

from stepwell.store.background import Lasting
from tests.waiting import PATIENCE, eventually


def tasks() -> list[asyncio.Task[None]]:
    """Those in which the work is done."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "work"]


async def for_ever() -> None:
    """Work without an end."""
    await asyncio.Event().wait()


async def test_work_begins_again_after_a_cancel_and_is_not_over_meanwhile() -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            await asyncio.Event().wait()

    def has_begun(times: int) -> bool:
        return begun == times

    lasting = Lasting(work, "work")
    for number in (1, 2):
        await eventually(partial(has_begun, number))
        (task,) = tasks()
        task.cancel()
        while tasks() == [task]:
            assert not lasting.is_over
            await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await lasting.ended
    assert lasting.is_over
    assert begun == 3


async def test_a_cancel_by_its_owner_ends_it() -> None:
    lasting = Lasting(for_ever, "work")
    await asyncio.sleep(0)
    lasting.cancel()
    async with asyncio.timeout(PATIENCE):
        await lasting.ended
    assert tasks() == []


async def test_code_that_cancels_all_tasks_until_none_is_left_comes_to_an_end() -> None:
    lasting = Lasting(for_ever, "work")
    async with asyncio.timeout(PATIENCE):
        while going := tasks():
            for task in going:
                task.cancel()
            await asyncio.wait(going)
            await asyncio.sleep(0)
        await lasting.ended
