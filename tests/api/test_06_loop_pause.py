"""The loop node's pause, between iterations: a duration, an aware instant, or a function of result and iteration."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, durable
from tests.api.handlers import Spy
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite, Runner

HOUR = timedelta(hours=1)


class Times:
    """A loop's handler that remembers when each iteration ran."""

    def __init__(self) -> None:
        self.seen: list[datetime] = []

    async def handle(self, input: Any, ctx: Context) -> None:
        self.seen.append(datetime.now(UTC))


@pytest.mark.parametrize("pause", [0.1, timedelta(seconds=0.1), lambda result, iteration: 0.1])
async def test_a_pause_is_waited_between_iterations(runner: Runner, pause: Any) -> None:
    times = Times()
    await runner(durable("order").loop("poll", times.handle, max_iterations=3, pause=pause))
    first, second, third = times.seen
    assert second - first >= timedelta(seconds=0.09)
    assert third - second >= timedelta(seconds=0.09)


async def test_a_pause_may_last_until_an_instant(runner: Runner) -> None:
    times = Times()
    instant = datetime.now(UTC) + timedelta(seconds=0.3)
    await runner(durable("order").loop("poll", times.handle, max_iterations=3, pause=instant))
    assert instant - timedelta(milliseconds=10) <= times.seen[1] <= times.seen[2]


@pytest.mark.parametrize("past", [datetime.now(UTC) - HOUR, lambda result, iteration: datetime.now(UTC) - HOUR])
async def test_a_pause_until_the_past_is_none(runner: Runner, past: Any) -> None:
    times = Times()
    await runner(durable("order").loop("poll", times.handle, max_iterations=3, pause=past))
    assert len(times.seen) == 3


async def test_the_function_is_given_result_and_iteration_and_only_between_iterations(runner: Runner) -> None:
    asked: list[tuple[Any, int]] = []

    def pause(result: Any, iteration: int) -> float:
        asked.append((result, iteration))
        return 0.001

    async def poll(input: Any, ctx: Context) -> str:
        return f"result {ctx.iteration}"

    order = durable("order").loop("poll", poll, max_iterations=3, pause=pause)
    order.loop("once", poll, max_iterations=1, pause=pause)
    order.loop("ended", poll, max_iterations=5, until=lambda result, iteration: True, pause=pause)
    await runner(order)
    assert asked == [("result 1", 1), ("result 2", 2)]


async def test_there_is_no_pause_after_the_last_iteration(runner: Runner) -> None:
    poll = Spy("done")
    order = durable("order").loop("one", poll.iterate, max_iterations=1, pause=HOUR)
    order.loop("ended", poll.iterate, max_iterations=5, until=lambda result, iteration: True, pause=HOUR)
    async with asyncio.timeout(60):
        assert (await runner(order)).results == {"one": "done", "ended": "done"}


@pytest.mark.parametrize("wrong", ["soon", None, datetime(2030, 1, 1), -1])  # noqa: DTZ001
async def test_a_function_that_gives_no_pause_is_a_failed_attempt(runner: Runner, wrong: Any) -> None:
    poll = Spy()
    order = durable("order").loop(
        "poll",
        poll.iterate,
        max_iterations=3,
        pause=lambda result, iteration: wrong,
        max_retries=1,
        retry_backoff=0.01,
    )
    assert (await runner(order)).failure.node == "poll"
    assert [(call.iteration, call.attempt) for call in poll.calls] == [(1, 1), (1, 2)]


async def test_a_run_in_its_pause_says_when_it_will_move(sqlite: OnSqlite) -> None:
    order = durable("order").loop("poll", Spy().iterate, max_iterations=3, pause=HOUR)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id

        async def wakes_at() -> datetime | None:
            return (await app.status(run_id)).wake_at

        wake_at = await eventually(wakes_at)
        snapshot = await app.status(run_id)
        (entry,) = await app.journal(run_id)
        assert wake_at is not None
        assert wake_at.utcoffset() == timedelta(0)
        assert HOUR - timedelta(seconds=1) <= wake_at - entry.finished_at <= HOUR + timedelta(seconds=30)
        assert (snapshot.status, snapshot.current_node, snapshot.awaiting_signal) == ("running", "poll", None)
        assert (entry.iteration, entry.status) == (1, "completed")
