"""Event loops whose factory runs what is begun to its first wait, before the caller has kept what comes back."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, durable
from tests.api import running_fixtures
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

url = running_fixtures.url


class _Begun:
    """The rest of a coroutine that was begun before its task was."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self.carrier: asyncio.Task[Any]
        self.first: tuple[Any, bool, Any] = (None, False, None)

    async def go_on(self) -> Any:
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        yield
        result = yield from self._in_its_own_step()
        return result

    def _in_its_own_step(self) -> Generator[Any, Any, Any]:
        waits_for, ended, value = self.first
        step: partial[Any]
        while not ended:
            try:
                step = partial(self._work.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001  it is for the coroutine
                step = partial(self._work.throw, error)
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value
        return value

    def begin(self) -> None:
        """Run to the first wait, as the task that will go on with it."""
        loop, before = asyncio.get_running_loop(), asyncio.current_task()
        if before is not None:
            asyncio._leave_task(loop, before)
        asyncio._enter_task(loop, self.carrier)
        try:
            self.first = (self._work.send(None), False, None)
        except StopIteration as stop:
            self.first = (None, True, stop.value)
        finally:
            asyncio._leave_task(loop, self.carrier)
            if before is not None:
                asyncio._enter_task(loop, before)


def first_step_at_once(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """What `asyncio.eager_task_factory` does, for a Python that has none."""
    begun = _Begun(work)
    rest = begun.go_on()
    rest.send(None)
    begun.carrier = made = asyncio.Task(rest, loop=loop, **options)
    if loop.is_running():
        begun.begin()
    return made


FACTORIES = [first_step_at_once]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)


async def quick(ctx: Context) -> int:
    return 1


async def waits(ctx: Context) -> int:
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    return await asyncio.create_task(quick(ctx))


@pytest.mark.parametrize("factory", FACTORIES)
async def test_runs_end_on_an_event_loop_that_begins_tasks_eagerly(url: str, factory: Any) -> None:
    child = durable("child").step("a", quick).step("b", waits)
    flow = durable("flow").step("quick", quick).step("waits", waits).step("plain", lambda ctx: 1)
    flow.parallel("all", {"one": quick, "two": waits, "three": lambda ctx: 1}).sleep("sleep", 0.01)
    flow.wait_for_signal("signal", "go").child_workflow("child", child).step("last", waits)
    asyncio.get_running_loop().set_task_factory(factory)
    try:
        async with asyncio.timeout(PATIENCE), Durable(url, [flow, child]) as app, app.worker():
            ids = [(await app.start(flow)).run_id for _ in range(3)]
            waiting = [asyncio.create_task(app.result(run_id, timeout=PATIENCE)) for run_id in ids]
            for run_id in ids:
                assert (await app.signal(run_id, "go")).accepted
            assert [(await one)["last"] for one in waiting] == [1, 1, 1]
            await app.result((await app.start(child)).run_id, timeout=PATIENCE)
    finally:
        asyncio.get_running_loop().set_task_factory(None)


@pytest.mark.parametrize("factory", FACTORIES)
async def test_a_workflow_runs_in_memory_on_such_a_loop(factory: Any) -> None:
    asyncio.get_running_loop().set_task_factory(factory)
    try:
        async with asyncio.timeout(PATIENCE):
            flow = durable("flow").step("quick", quick).parallel("all", {"one": quick, "two": waits})
            assert (await flow.run()).results == {"quick": 1, "one": 1, "two": 1}
    finally:
        asyncio.get_running_loop().set_task_factory(None)
