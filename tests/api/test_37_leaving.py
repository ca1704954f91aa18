"""Leaving an app or a worker twice, in the wrong order, or while others use it: an error by name, at once."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Durable, DurableError, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import CALLS, one
from tests.gates import Gate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextlib import AbstractAsyncContextManager

url = running_fixtures.url


def flow() -> Any:
    """A workflow of one step."""
    return durable("flow").step("value", one)


async def within_patience(what: Awaitable[Any]) -> Any:
    """What it gives; the test fails where that takes long."""
    return await asyncio.wait_for(what, PATIENCE)


async def test_result_that_waits_while_its_app_is_left_says_so(url: str) -> None:
    gate = Gate()
    async with Durable(url, [durable("flow").step("work", gate.handler)]) as app:
        started = await app.start("flow")
        waiting = [asyncio.create_task(app.result(started.run_id)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting)
    for each in waiting:
        with pytest.raises(DurableError, match=f"app was left while result.. waited for run {started.run_id}"):
            await within_patience(each)


async def working(url: str, gate: Gate, *, grace: float) -> tuple[Durable, AbstractAsyncContextManager[Any], str]:
    """An app and its worker, both entered, and the run whose handler waits at the gate."""
    app = Durable(url, [durable("flow").step("work", gate.handler)])
    await app.__aenter__()
    worker = app.worker(grace=grace)
    await worker.__aenter__()
    started = await app.start("flow")
    await gate.entered()
    return app, worker, started.run_id


async def test_result_is_told_at_once_that_its_app_is_left_not_after_the_grace(url: str) -> None:
    gate = Gate("done")
    app, _, run_id = await working(url, gate, grace=3600)
    waiting = asyncio.create_task(app.result(run_id))
    await asyncio.sleep(0)
    leaving = asyncio.create_task(app.__aexit__(None, None, None))
    with pytest.raises(DurableError, match="app was left"):
        await within_patience(waiting)
    assert not leaving.done()
    gate.let()
    await within_patience(leaving)


async def test_an_app_that_is_left_before_its_worker_stops_it_and_the_worker_says_so(url: str) -> None:
    gate = Gate("done")
    app, worker, run_id = await working(url, gate, grace=0)
    await within_patience(app.__aexit__(None, None, None))
    assert gate.canceled == 1
    with pytest.raises(DurableError, match="was stopped when its app was left"):
        await within_patience(worker.__aexit__(None, None, None))
    if url != "sqlite://":
        gate.let()
        async with Durable(url, [durable("flow").step("work", gate.handler)]) as other, other.worker():
            assert await other.result(run_id, timeout=PATIENCE) == {"work": "done"}


async def test_an_app_that_is_left_first_lets_its_workers_handlers_end_within_the_grace(url: str) -> None:
    gate = Gate("done")
    app, _, _ = await working(url, gate, grace=PATIENCE)
    leaving = asyncio.create_task(app.__aexit__(None, None, None))
    await asyncio.sleep(0)
    gate.let()
    await within_patience(leaving)
    assert gate.canceled == 0


async def test_an_error_in_the_body_is_not_hidden_by_a_worker_that_is_left_after_its_app() -> None:
    app = Durable("sqlite://", [flow()])
    await app.__aenter__()
    worker = app.worker()
    await worker.__aenter__()
    await app.__aexit__(None, None, None)
    await worker.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)  # raises nothing of its own over that


async def test_a_worker_that_is_being_left_is_waited_for_by_its_app(url: str) -> None:
    gate = Gate("done")
    app, worker, _ = await working(url, gate, grace=PATIENCE)
    leaving_worker = asyncio.create_task(worker.__aexit__(None, None, None))
    await asyncio.sleep(0)
    leaving_app = asyncio.create_task(app.__aexit__(None, None, None))
    await asyncio.sleep(0)
    gate.let()
    await within_patience(asyncio.gather(leaving_worker, leaving_app))
    assert gate.canceled == 0


async def test_a_worker_that_is_being_entered_while_its_app_is_left_is_not_entered(url: str) -> None:
    app = Durable(url, [flow()])
    await app.__aenter__()
    worker = app.worker()
    entering = asyncio.create_task(worker.__aenter__())
    await asyncio.sleep(0)
    leaving = asyncio.create_task(app.__aexit__(None, None, None))
    await within_patience(asyncio.wait({entering, leaving}))
    leaving.result()
    error = entering.exception()
    if error is None:  # it was quicker, as in memory
        with pytest.raises(DurableError, match="was stopped when its app was left"):
            await worker.__aexit__(None, None, None)
    else:
        assert isinstance(error, DurableError)
        assert "was left" in str(error)


@pytest.mark.parametrize("inside", [True, False])
async def test_a_worker_is_entered_once(url: str, *, inside: bool) -> None:
    async with Durable(url, [flow()]) as app:
        worker = app.worker()
        await worker.__aenter__()
        if not inside:
            await worker.__aexit__(None, None, None)
        with pytest.raises(DurableError, match="worker is entered already" if inside else "worker was left"):
            await worker.__aenter__()
        if inside:
            started = await app.start("flow")
            assert await app.result(started.run_id, timeout=PATIENCE) == {"value": 1}
            await worker.__aexit__(None, None, None)


async def test_a_worker_that_is_being_entered_cannot_be_entered(url: str) -> None:
    async with Durable(url, [flow()]) as app:
        worker = app.worker()
        results = await asyncio.gather(worker.__aenter__(), worker.__aenter__(), return_exceptions=True)
        assert [type(each) for each in results if isinstance(each, BaseException)] == [DurableError]
        await worker.__aexit__(None, None, None)


async def test_a_worker_that_was_not_entered_cannot_be_left(url: str) -> None:
    async with Durable(url, [flow()]) as app:
        with pytest.raises(DurableError, match="worker was not entered"):
            await app.worker().__aexit__(None, None, None)


async def test_a_worker_is_left_once(url: str) -> None:
    async with Durable(url, [flow()]) as app:
        worker = app.worker()
        await worker.__aenter__()
        await worker.__aexit__(None, None, None)
        with pytest.raises(DurableError, match="worker was left"):
            await worker.__aexit__(None, None, None)


async def test_a_worker_of_an_app_that_was_left_cannot_be_entered(url: str) -> None:
    app = Durable(url, [flow()])
    async with app:
        worker = app.worker()
    with pytest.raises(DurableError, match="Durable was left"):
        await within_patience(worker.__aenter__())
    async with app:
        with pytest.raises(DurableError, match="Durable was left"):
            await within_patience(worker.__aenter__())


async def test_a_worker_needs_an_app_that_is_entered() -> None:
    with pytest.raises(DurableError, match="not entered"):
        Durable("sqlite://", [flow()]).worker()


async def test_an_app_is_entered_once_at_a_time_and_may_be_entered_again(url: str) -> None:
    app = Durable(url, [flow()])
    async with app:
        with pytest.raises(DurableError, match="entered already"):
            await app.__aenter__()
        await app.start("flow")
    async with app, app.worker():
        started = await app.start("flow")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"value": 1}


async def test_an_app_that_was_not_entered_cannot_be_left(url: str) -> None:
    app = Durable(url)
    with pytest.raises(DurableError, match="not entered"):
        await app.__aexit__(None, None, None)
    async with app:
        pass
    with pytest.raises(DurableError, match="not entered"):
        await app.__aexit__(None, None, None)


async def test_an_app_that_is_being_left_is_neither_left_nor_entered_nor_called(url: str) -> None:
    gate = Gate()
    app = Durable(url, [durable("flow").step("work", gate.handler)])
    await app.__aenter__()
    await app.worker(grace=3600).__aenter__()
    await app.start("flow")
    await gate.entered()
    leaving = asyncio.create_task(app.__aexit__(None, None, None))
    await asyncio.sleep(0)
    for call in (app.__aenter__(), app.__aexit__(None, None, None), app.start("flow"), app.list()):
        with pytest.raises(DurableError, match=r"was left|entered already"):
            await within_patience(call)
    gate.let()
    await within_patience(leaving)


def threads_of_stores() -> list[str]:
    """The threads of this process that have a file open."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stepwell-sqlite")]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_under_way_while_its_app_is_left_ends(url: str, name: str, turns: int) -> None:
    """It gives what it would have, or an error by name: it never waits for an answer that cannot come."""
    other = durable("other").step("value", one)
    app = Durable(url, [flow(), other])
    await app.__aenter__()
    started = await app.start("other")
    call = asyncio.ensure_future(CALLS[name](app, started.run_id))
    for _ in range(turns):
        await asyncio.sleep(0)
    await within_patience(app.__aexit__(None, None, None))
    await within_patience(asyncio.wait({call}))
    assert call.exception() is None or isinstance(call.exception(), DurableError)
    await eventually(lambda: not threads_of_stores())
