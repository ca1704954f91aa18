"""Policy, the delays: how long after a failed attempt the next begins, and how long an attempt may take."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Backoff, Context, Retry, durable
from tests.api.handlers import LineDownError, Spy, fail, nothing
from tests.waiting import eventually

if TYPE_CHECKING:
    from stepwell import Entry, RunSnapshot, Workflow
    from tests.api.runs import OnSqlite, Runner

LATE_SECONDS = 2


async def delay_after(sqlite: OnSqlite, workflow: Workflow, attempts: int) -> float:
    """The seconds between that many failed attempts of a run and the moment it will move by itself."""
    async with sqlite.open(workflow) as app, app.worker():
        run_id = (await app.start(workflow)).run_id

        async def waits() -> tuple[RunSnapshot, list[Entry]] | None:
            snapshot, entries = await app.status(run_id), await app.journal(run_id)
            return (snapshot, entries) if len(entries) == attempts and snapshot.wake_at is not None else None

        snapshot, entries = await eventually(waits)
        assert (snapshot.status, entries[-1].status) == ("running", "retrying")
        assert isinstance(snapshot.wake_at, datetime)
        return (snapshot.wake_at - entries[-1].finished_at).total_seconds()


EXPONENTIAL = Backoff(initial=0.02, factor=1000, maximum=300, jitter=0)


@pytest.mark.parametrize(
    ("backoff", "attempts", "least", "most"),
    [
        ("exponential", 1, 0.9, 1.1),
        (Backoff(), 1, 0.9, 1.1),
        (Backoff(initial=100), 1, 90, 110),
        (Backoff(initial=100, jitter=0), 1, 100, 100),
        (Backoff(initial=timedelta(seconds=100), jitter=0), 1, 100, 100),
        (EXPONENTIAL, 2, 20, 20),
        (Backoff(initial=0.02, factor=1000, maximum=7, jitter=0), 2, 7, 7),
        (Backoff(initial=50, factor=1, jitter=0.5), 1, 25, 75),
        ("linear", 1, 1, 1),
        ("linear", 2, 2, 2),
        (50, 1, 50, 50),
        (timedelta(minutes=5), 1, 300, 300),
    ],
)
async def test_the_next_attempt_is_due_after_the_backoff(
    sqlite: OnSqlite, backoff: Any, attempts: int, least: float, most: float
) -> None:
    delay = await delay_after(sqlite, durable("order").step("charge", fail, retry_backoff=backoff), attempts)
    assert least - 0.05 <= delay <= most + LATE_SECONDS


async def test_without_a_choice_the_backoff_is_exponential(sqlite: OnSqlite) -> None:
    delay = await delay_after(sqlite, durable("order").step("charge", fail), 1)
    assert 0.85 <= delay <= 1.1 + LATE_SECONDS


@pytest.mark.parametrize("after", [60, timedelta(minutes=1)])
async def test_retry_is_due_after_the_delay_it_names(sqlite: OnSqlite, after: Any) -> None:
    async def charge(ctx: Context) -> None:
        raise Retry("not yet", after=after)

    delay = await delay_after(sqlite, durable("order").step("charge", charge, retry_backoff=3600), 1)
    assert 59.95 <= delay <= 60 + LATE_SECONDS


async def test_the_backoff_is_counted_anew_for_each_iteration(sqlite: OnSqlite) -> None:
    async def poll(input: Any, ctx: Context) -> None:
        if ctx.iteration == 2 or ctx.attempt == 1:
            raise LineDownError("down")

    loop = durable("order").loop(
        "poll", poll, max_iterations=3, retry_backoff=Backoff(initial=0.02, factor=5000, jitter=0)
    )
    # Rows: the first iteration retrying and completed, the second retrying: its delay is the first again.
    async with sqlite.open(loop) as app, app.worker():
        run_id = (await app.start(loop)).run_id

        async def waits_long() -> Any:
            wake_at = (await app.status(run_id)).wake_at
            entries = await app.journal(run_id)
            return wake_at and (wake_at - entries[-1].finished_at).total_seconds() > 10 and entries

        entries = await eventually(waits_long)
    assert [(entry.iteration, entry.attempt, entry.status) for entry in entries] == [
        (1, 1, "retrying"),
        (1, 2, "completed"),
        (2, 1, "retrying"),
        (2, 2, "retrying"),
    ]


async def test_the_backoff_is_waited_in_full(runner: Runner) -> None:
    times: list[float] = []

    async def charge(ctx: Context) -> None:
        times.append(asyncio.get_running_loop().time())
        if ctx.attempt < 3:
            raise LineDownError("down")

    await runner(durable("order").step("charge", charge, retry_backoff=Backoff(initial=0.1, factor=2, jitter=0)))
    assert times[1] - times[0] >= 0.09
    assert times[2] - times[1] >= 0.19


# Timeout.


async def test_running_out_of_time_is_a_failed_attempt(runner: Runner) -> None:
    attempts: list[int] = []

    async def charge(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            await asyncio.Event().wait()
        return "paid"

    order = durable("order").step("charge", charge, timeout=0.05, retry_backoff=0.01)
    assert (await runner(order)).results == {"charge": "paid"}
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("timeout", [0.05, timedelta(milliseconds=50)])
async def test_the_last_timeout_fails_the_node_with_its_name(runner: Runner, timeout: Any) -> None:
    async def charge(ctx: Context) -> None:
        await asyncio.Event().wait()

    outcome = await runner(durable("order").step("charge", charge, timeout=timeout, max_retries=1, retry_backoff=0.01))
    assert (outcome.failure.node, outcome.failure.type) == ("charge", "TimeoutError")


async def test_an_async_handler_out_of_time_is_cancelled(runner: Runner) -> None:
    seen: list[str] = []

    async def charge(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    await runner(durable("order").step("charge", charge, timeout=0.05, max_retries=1, retry_backoff=0.01))
    assert seen == ["cancelled", "cancelled"]


async def test_the_timeout_is_that_of_one_attempt_one_entry_and_one_iteration(runner: Runner) -> None:
    async def iterate(input: Any, ctx: Context) -> None:
        await asyncio.sleep(0.25)

    async def entry(ctx: Context) -> None:
        await asyncio.sleep(0.25)
        if ctx.attempt < 3:
            raise LineDownError("down")

    order = durable("order").loop("poll", iterate, max_iterations=5, timeout=1, max_retries=0)
    order.parallel("both", {"a": entry, "b": entry}, timeout=1, max_retries=2, retry_backoff=0.3)
    assert (await runner(order)).results == {"poll": None, "a": None, "b": None}


async def test_a_timed_out_attempt_is_journaled(sqlite: OnSqlite) -> None:
    async def charge(ctx: Context) -> None:
        if ctx.attempt == 1:
            await asyncio.Event().wait()

    kept = await sqlite(durable("order").step("charge", charge, timeout=0.05, retry_backoff=0.01))
    assert kept.rows() == [("step", "retrying", 1), ("step", "completed", 2)]
    error = kept.journal[0].error
    assert error is not None
    assert (error.node, error.type) == ("charge", "TimeoutError")


async def test_without_a_timeout_the_apps_step_timeout_holds(sqlite: OnSqlite) -> None:
    async def charge(ctx: Context) -> None:
        await asyncio.Event().wait()

    order = durable("order").step("charge", charge, max_retries=0)
    kept = await sqlite(order, step_timeout=timedelta(milliseconds=50))
    assert (kept.failure.node, kept.failure.type) == ("charge", "TimeoutError")


async def test_the_nodes_timeout_beats_the_apps(sqlite: OnSqlite) -> None:
    async def charge(ctx: Context) -> None:
        await asyncio.sleep(0.3)

    order = durable("order").step("charge", charge, max_retries=0, timeout=20)
    assert (await sqlite(order, step_timeout=0.05)).results == {"charge": None}


async def test_a_sleep_and_a_pause_are_no_part_of_any_timeout(sqlite: OnSqlite) -> None:
    order = durable("order").sleep("nap", 0.4).loop("poll", Spy().iterate, max_iterations=2, pause=0.4, max_retries=0)
    assert (await sqlite(order.step("close", nothing), step_timeout=0.2)).results == {
        "nap": None,
        "poll": None,
        "close": None,
    }
