"""Entering and leaving that is itself cancelled, at each of its awaits: nothing of a worker or an app lives on.

A shutdown has a deadline that is shorter than the grace, Ctrl-C is pressed twice, a task group is torn down: and the
process lives on, and must not keep the runs leased.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stepwell import Context, Durable, DurableError, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from tests.api import running_fixtures
from tests.gates import Gate
from tests.interrupts import interrupted
from tests.postgres import dsn, fresh_url
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

url = running_fixtures.url
MOST_AWAITS = 60


def unhurried() -> SystemRuntime:
    """On a busy machine two seconds may be too short to give the runs back; no test is about that."""
    return SystemRuntime(Tuning(quick_seconds=4 * PATIENCE))


def at_once(await_number: int) -> range:
    """Cancelled at that await alone."""
    return range(await_number, await_number + 1)


def again_and_again(await_number: int) -> range:
    """Cancelled at that await and each later one, as an anyio cancel scope does."""
    return range(await_number, 10**9)


def beats() -> list[str]:
    """The threads that beat for a worker of this process."""
    return [thread.name for thread in threading.enumerate() if "beat" in thread.name]


def tasks_of_a_worker() -> list[str]:
    """The tasks that only a worker has."""
    names = ("claim", "expire_dead", "renewal", "run-", "committer", "wakeup", "retire")
    return [
        task.get_name()
        for task in asyncio.all_tasks()
        if task.get_name().startswith(tuple(f"stepwell-{name}" for name in names))
    ]


async def nothing_lives(app: Durable) -> None:
    """Fails the test where anything of a worker lives on."""
    await eventually(lambda: not beats())
    assert tasks_of_a_worker() == []
    assert await app._store.workers() == []


@pytest.mark.parametrize("cancels", [at_once, again_and_again])
async def test_nothing_of_a_worker_outlives_its_leaving_wherever_that_is_cancelled(
    url: str, cancels: Callable[[int], range]
) -> None:
    gate = Gate("done")
    async with Durable(url, [durable("flow").step("work", gate.handler)], runtime=unhurried()) as app:
        started = await app.start("flow")
        for number in range(1, MOST_AWAITS):
            one = app.worker(grace=0.01)
            await one.__aenter__()
            await gate.entered(number)
            reached = await interrupted(one.__aexit__(None, None, None), cancels(number))
            await nothing_lives(app)
            assert gate.canceled == number
            if not reached:
                break
        else:
            pytest.fail("leaving never came to its end")
        assert number > 3, "leaving waits for more than that"
        gate.let()
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"work": "done"}
        assert set(gate.attempts) == {1}, "a stop is no failed attempt"


async def test_leaving_under_a_deadline_shorter_than_the_grace_ends_with_the_deadline(url: str) -> None:
    gate = Gate("done")
    async with Durable(url, [durable("flow").step("work", gate.handler)], runtime=unhurried()) as app:
        one = app.worker(grace=3600)
        await one.__aenter__()
        started = await app.start("flow")
        await gate.entered()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await one.__aexit__(None, None, None)
        await nothing_lives(app)
        assert gate.canceled == 1
        gate.let()
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"work": "done"}


async def test_a_handler_has_a_moment_to_end_after_its_leaving_was_cancelled(url: str) -> None:
    gate, ended = Gate(), asyncio.Event()

    async def tidy(ctx: Context) -> None:
        try:
            await gate.handler(ctx)
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    async with Durable(url, [durable("flow").step("work", tidy)], runtime=unhurried()) as app:
        one = app.worker(grace=3600)
        await one.__aenter__()
        await app.start("flow")
        await gate.entered()
        await interrupted(one.__aexit__(None, None, None), at_once(1))
        assert ended.is_set()
        await nothing_lives(app)


async def test_a_handler_that_swallows_its_cancellation_does_not_hold_up_a_leaving_that_was_cancelled(url: str) -> None:
    begun = asyncio.Event()

    async def stubborn(ctx: Context) -> None:
        begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async with Durable(url, [durable("flow").step("work", stubborn)]) as app:
        one = app.worker(grace=3600)
        await one.__aenter__()
        await app.start("flow")
        await asyncio.wait_for(begun.wait(), PATIENCE)
        await interrupted(one.__aexit__(None, None, None), again_and_again(1))
        await nothing_lives(app)


async def test_nothing_of_a_worker_stays_wherever_its_entering_is_cancelled(url: str) -> None:
    gate = Gate("done")
    gate.let()
    async with Durable(url, [durable("flow").step("work", gate.handler)], runtime=unhurried()) as app:
        for number in range(1, MOST_AWAITS):
            one = app.worker()
            if not await interrupted(one.__aenter__(), at_once(number)):
                break
            await nothing_lives(app)
        else:
            pytest.fail("entering never came to its end")
        started = await app.start("flow")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"work": "done"}
        await one.__aexit__(None, None, None)
        await nothing_lives(app)


@pytest.mark.parametrize("cancels", [at_once, again_and_again])
async def test_nothing_of_an_app_outlives_its_leaving_wherever_that_is_cancelled(
    url: str, cancels: Callable[[int], range]
) -> None:
    gate = Gate("done")
    for number in range(1, MOST_AWAITS):
        app = Durable(url, [durable("flow").step("work", gate.handler)], runtime=unhurried())
        await app.__aenter__()
        if number == 1 or url == "sqlite://":
            await app.start("flow")
        await app.worker(grace=0.01).__aenter__()
        await gate.entered(number)
        reached = await interrupted(app.__aexit__(None, None, None), cancels(number))
        await eventually(lambda: not stepwell_threads())
        assert tasks_of_a_worker() == []
        assert gate.canceled == number
        if not reached:
            break
    else:
        pytest.fail("leaving never came to its end")


def stepwell_threads() -> list[str]:
    """The threads of this process that are stepwell's."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stepwell")]


async def test_an_app_whose_entering_is_cancelled_can_be_entered(url: str) -> None:
    app = Durable(url, [durable("flow").step("work", Gate().handler)])
    for number in range(1, MOST_AWAITS):
        if not await interrupted(app.__aenter__(), at_once(number)):
            break
        await eventually(lambda: not stepwell_threads())
    else:
        pytest.fail("entering never came to its end")
    started: Any = await app.start("flow")
    assert (await app.status(started.run_id)).status == "pending"
    await app.__aexit__(None, None, None)
    await eventually(lambda: not stepwell_threads())


async def test_calls_that_a_server_does_not_answer_end_when_their_app_is_left() -> None:
    url = fresh_url()
    app = Durable(url, [durable("flow").step("work", Gate().handler)])
    await app.__aenter__()
    await app.start("flow")
    schema = app._store._location.schema  # type: ignore[attr-defined]  # it is the store on PostgreSQL
    locking = await asyncpg.connect(dsn())
    try:
        await locking.execute("BEGIN")
        await locking.execute(f'LOCK TABLE "{schema}".runs IN ACCESS EXCLUSIVE MODE')
        calls = [
            asyncio.ensure_future(call) for call in (*(app.start_many("flow", [1, 2]) for _ in range(20)), app.list())
        ]
        working = app._store._connections._working  # type: ignore[attr-defined]  # as above
        await eventually(lambda: bool(working))
        await app.__aexit__(None, None, None)
        done, waiting = await asyncio.wait(calls, timeout=PATIENCE / 4)
        assert not waiting, "they wait for the server's answer, or for each other"
        for call in done:
            with pytest.raises(DurableError, match="app was left while"):
                await call
    finally:
        await locking.close()
