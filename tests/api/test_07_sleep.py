"""The sleep node: a duration, an aware instant, or a function asked once; a sleeping run is only a row."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Context, Retry, durable
from tests.api.handlers import Spy, nothing
from tests.api.runs import ended, work_until
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite, Runner

HOUR = timedelta(hours=1)


async def now(ctx: Context) -> float:
    return datetime.now(UTC).timestamp()


def napping(duration: Any) -> Any:
    """A workflow that notes the time before and after a sleep."""
    return durable("order").step("before", now).sleep("nap", duration).step("after", now)


@pytest.mark.parametrize("duration", [0.2, timedelta(seconds=0.2), lambda ctx: 0.2, lambda ctx: timedelta(seconds=0.2)])
async def test_a_sleep_is_really_slept(runner: Runner, duration: Any) -> None:
    results = (await runner(napping(duration))).results
    assert results["after"] - results["before"] >= 0.19


@pytest.mark.parametrize("given", [lambda instant: instant, lambda instant: lambda ctx: instant])
async def test_a_sleep_may_last_until_an_instant(runner: Runner, given: Any) -> None:
    instant = datetime.now(timezone(timedelta(hours=5))) + timedelta(seconds=0.3)
    results = (await runner(napping(given(instant)))).results
    assert results["after"] >= instant.timestamp() - 0.01


@pytest.mark.parametrize("past", [datetime.now(UTC) - HOUR, lambda ctx: datetime.now(UTC) - HOUR, 0])
async def test_an_instant_in_the_past_is_no_wait(runner: Runner, past: Any) -> None:
    assert (await runner(durable("order").sleep("nap", past))).results == {"nap": None}


async def test_the_result_of_a_sleep_is_none(runner: Runner) -> None:
    close = Spy()
    await runner(durable("order").sleep("nap", 0.01).step("close", close.handle))
    assert close.calls[0].results == {"nap": None}


async def test_the_function_is_given_the_context_and_asked_once(runner: Runner) -> None:
    duration = Spy(0.05)
    order = durable("order").step("weigh", lambda ctx: 3).sleep("nap", duration.decide)
    assert (await runner(order, "input")).results == {"weigh": 3, "nap": None}
    (call,) = duration.calls
    assert (call.step, call.attempt, call.iteration, call.input) == ("nap", 1, None, "input")
    assert call.results == {"weigh": 3}


async def test_the_function_may_be_async(runner: Runner) -> None:
    async def duration(ctx: Context) -> float:
        await asyncio.sleep(0)
        return 0.01

    assert (await runner(durable("order").sleep("nap", duration))).results == {"nap": None}


async def test_an_error_in_the_function_is_a_failed_attempt(runner: Runner) -> None:
    asked: list[int] = []

    def duration(ctx: Context) -> float:
        asked.append(ctx.attempt)
        if ctx.attempt < 3:
            raise Retry("ask again", after=0.01)
        return 0.01

    assert (await runner(durable("order").sleep("nap", duration))).results == {"nap": None}
    assert asked == [1, 2, 3]


async def test_a_sleep_has_the_default_policy_of_four_attempts(runner: Runner) -> None:
    asked: list[int] = []

    def duration(ctx: Context) -> float:
        asked.append(ctx.attempt)
        raise Retry("ask again", after=0.01)

    outcome = await runner(durable("order").sleep("nap", duration))
    assert (outcome.failure.node, outcome.failure.type) == ("nap", "Retry")
    assert asked == [1, 2, 3, 4]


async def test_a_function_that_gives_up_fails_the_node_at_once(runner: Runner) -> None:
    asked: list[int] = []

    def duration(ctx: Context) -> float:
        asked.append(ctx.attempt)
        raise Abort("never")

    outcome = await runner(durable("order").sleep("nap", duration))
    assert (outcome.failure.node, outcome.failure.type, outcome.failure.message) == ("nap", "Abort", "never")
    assert asked == [1]


@pytest.mark.parametrize("wrong", ["soon", None, datetime(2030, 1, 1), -1, float("nan")])  # noqa: DTZ001
async def test_a_function_that_gives_no_duration_is_a_failed_attempt(sqlite: OnSqlite, wrong: Any) -> None:
    order = durable("order").sleep("nap", lambda ctx: wrong)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id

        async def first() -> Any:
            return await app.journal(run_id)

        entry = (await eventually(first))[0]
        assert (entry.node, entry.kind, entry.status, entry.attempt) == ("nap", "sleep", "retrying", 1)
        assert entry.error is not None


# What is journaled, and what a sleeping run shows.


async def test_a_sleep_is_journaled_once_when_it_is_over(sqlite: OnSqlite) -> None:
    kept = await sqlite(durable("order").sleep("nap", 0.1))
    (entry,) = kept.journal
    assert (entry.node, entry.kind, entry.status, entry.attempt) == ("nap", "sleep", "completed", 1)
    assert (entry.result, entry.error, entry.iteration) == (None, None, None)


async def test_the_attempts_of_its_function_are_journaled(sqlite: OnSqlite) -> None:
    def duration(ctx: Context) -> float:
        if ctx.attempt < 3:
            raise Retry("ask again", after=0.01)
        return 0.01

    kept = await sqlite(durable("order").sleep("nap", duration))
    assert kept.rows() == [("sleep", "retrying", 1), ("sleep", "retrying", 2), ("sleep", "completed", 3)]


async def test_a_sleeping_run_is_running_and_says_when_it_will_move(sqlite: OnSqlite) -> None:
    instant = datetime.now(timezone(timedelta(hours=-3))) + HOUR
    order = durable("order").step("before", nothing).sleep("nap", instant).step("after", nothing)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id

        async def wakes_at() -> datetime | None:
            return (await app.status(run_id)).wake_at

        wake_at = await eventually(wakes_at)
        snapshot = await app.status(run_id)
        assert wake_at is not None
        assert wake_at.utcoffset() == timedelta(0)
        assert abs(wake_at - instant) <= timedelta(seconds=5)
        assert (snapshot.status, snapshot.current_node, snapshot.current_step) == ("running", "nap", 1)
        assert snapshot.results == {"before": None}
        assert [entry.node for entry in await app.journal(run_id)] == ["before"]


async def test_a_sleep_goes_on_over_a_change_of_workers_and_its_function_is_not_asked_again(sqlite: OnSqlite) -> None:
    duration = Spy(0.5)
    order = durable("order").step("before", now).sleep("nap", duration.decide).step("after", now)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id

        async def sleeps() -> bool:
            return (await app.status(run_id)).wake_at is not None

        await work_until(app, sleeps)
    async with sqlite.open(order) as app, app.worker():
        kept = await ended(app, run_id)
    assert kept.results["after"] - kept.results["before"] >= 0.49
    assert len(duration.calls) == 1
