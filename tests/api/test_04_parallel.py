"""The parallel node: entries that run side by side, each with its own name, attempts, journal rows and result."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from stepwell import Abort, Branch, Context, durable
from tests.api.handlers import LineDownError, Spy, nothing
from tests.api.runs import ended, work_until

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite, Runner


async def test_each_result_is_under_its_entrys_own_name(runner: Runner) -> None:
    order = durable("order").parallel("notify", {"email": lambda ctx: 1, "sms": Branch(lambda ctx: 2)})
    assert (await runner(order)).results == {"email": 1, "sms": 2}


async def test_async_entries_run_side_by_side(runner: Runner) -> None:
    met = asyncio.Barrier(3)

    async def meet(ctx: Context) -> None:
        await met.wait()

    outcome = await runner(durable("order").parallel("all", {"a": meet, "b": meet, "c": meet}, timeout=20))
    assert set(outcome.results) == {"a", "b", "c"}


async def test_plain_entries_run_side_by_side(runner: Runner) -> None:
    met = threading.Barrier(3)

    def meet(ctx: Context) -> None:
        met.wait(timeout=20)

    outcome = await runner(durable("order").parallel("all", {"a": meet, "b": meet, "c": meet}))
    assert set(outcome.results) == {"a", "b", "c"}


async def test_an_entry_sees_what_completed_before_the_node_but_not_its_siblings(runner: Runner) -> None:
    quick, slow, after = Spy(1), Spy(2), Spy(3)
    quick_ended = asyncio.Event()

    async def first(ctx: Context) -> int:
        quick_ended.set()
        return int(await quick.handle(ctx))

    async def second(ctx: Context) -> int:
        await quick_ended.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        if ctx.attempt == 1:
            raise LineDownError("once more, with the sibling's result journaled")
        return int(await slow.handle(ctx))

    order = (
        durable("order")
        .step("reserve", lambda ctx: 0)
        .parallel("notify", {"first": first, "second": second}, retry_backoff=0.01)
        .step("close", after.handle)
    )
    assert (await runner(order)).results == {"reserve": 0, "first": 1, "second": 2, "close": 3}
    assert quick.calls[0].results == slow.calls[0].results == {"reserve": 0}
    assert after.calls[0].results == {"reserve": 0, "first": 1, "second": 2}


async def test_the_context_of_an_entry_names_the_entry(runner: Runner) -> None:
    email, sms = Spy(), Spy()
    await runner(durable("order").parallel("notify", {"email": email.handle, "sms": sms.handle}))
    assert (email.calls[0].step, sms.calls[0].step) == ("email", "sms")
    assert (email.calls[0].iteration, sms.calls[0].iteration) == (None, None)


async def test_attempts_are_counted_for_each_entry(runner: Runner) -> None:
    once, twice, thrice = Spy(failures=0), Spy(failures=1), Spy(failures=2)
    entries = {"once": once.handle, "twice": twice.handle, "thrice": thrice.handle}
    outcome = await runner(durable("order").parallel("all", entries, max_retries=2, retry_backoff=0.01))
    assert set(outcome.results) == {"once", "twice", "thrice"}
    assert (once.attempts, twice.attempts, thrice.attempts) == ([1], [1, 2], [1, 2, 3])


async def test_the_node_ends_when_all_its_entries_have(runner: Runner) -> None:
    seen: list[str] = []
    released = asyncio.Event()

    async def quick(ctx: Context) -> None:
        seen.append("quick")
        released.set()

    async def slow(ctx: Context) -> None:
        await released.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        seen.append("slow")

    async def after(ctx: Context) -> None:
        seen.append("after")

    await runner(durable("order").parallel("both", {"slow": slow, "quick": quick}).step("close", after))
    assert seen == ["quick", "slow", "after"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("turns", range(8))
async def test_the_next_node_is_called_once_however_closely_the_entries_end(runner: Runner, turns: int) -> None:
    close = Spy("closed")

    async def first(ctx: Context) -> None: ...

    async def second(ctx: Context) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    order = durable("order").parallel("both", {"first": first, "second": second}).step("close", close.handle)
    assert (await runner(order)).results == {"first": None, "second": None, "close": "closed"}
    assert len(close.calls) == 1


# When an entry fails for good.


async def test_the_failure_names_the_entry(runner: Runner) -> None:
    order = durable("order").parallel("notify", {"email": nothing, "sms": Spy(failures=9).handle}, max_retries=0)
    failure = (await runner(order)).failure
    assert (failure.node, failure.type) == ("sms", "LineDownError")


async def test_the_others_end_their_attempt_and_begin_no_other(runner: Runner) -> None:
    began, failed = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    async def bad(ctx: Context) -> None:
        await began.wait()
        failed.set()
        raise Abort("for good")

    async def slow(ctx: Context) -> None:
        seen.append(f"attempt {ctx.attempt}")
        began.set()
        await failed.wait()
        for _ in range(200):
            await asyncio.sleep(0)
        seen.append("ended")
        raise LineDownError("would be tried again")

    order = durable("order").parallel("both", {"bad": bad, "slow": slow}, retry_backoff=0.01)
    assert (await runner(order)).failure.node == "bad"
    assert seen == ["attempt 1", "ended"]


async def test_an_entry_that_waits_to_try_again_does_not(runner: Runner) -> None:
    tried = asyncio.Event()
    calls: list[int] = []

    async def waiting(ctx: Context) -> None:
        calls.append(ctx.attempt)
        tried.set()
        raise LineDownError("tried again in an hour")

    async def bad(ctx: Context) -> None:
        await tried.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        raise Abort("for good")

    order = durable("order").parallel("both", {"waiting": waiting, "bad": bad}, retry_backoff=3600)
    assert (await runner(order)).failure.node == "bad"
    assert calls == [1]


async def test_compensation_starts_only_after_the_others_have_ended(runner: Runner) -> None:
    began, failed = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    async def bad(ctx: Context) -> None:
        await began.wait()
        failed.set()
        raise Abort("for good")

    async def slow(ctx: Context) -> None:
        began.set()
        await failed.wait()
        for _ in range(200):
            await asyncio.sleep(0)
        seen.append("slow ended")

    async def undo(ctx: Context) -> None:
        seen.append(f"undo {ctx.step}")

    order = (
        durable("order")
        .step("reserve", nothing, compensate=undo)
        .parallel("both", {"bad": Branch(bad, compensate=undo), "slow": Branch(slow, compensate=undo)})
    )
    assert (await runner(order)).compensated == ["slow", "reserve"]
    assert seen == ["slow ended", "undo slow", "undo reserve"]


# What is journaled.


async def test_each_entry_is_journaled_under_its_own_name_and_the_node_not_at_all(sqlite: OnSqlite) -> None:
    entries = {"email": lambda ctx: 1, "sms": Spy(2, failures=1).handle}
    kept = await sqlite(durable("order").parallel("notify", entries, retry_backoff=0.01))
    assert kept.rows("email") == [("step", "completed", 1)]
    assert kept.rows("sms") == [("step", "retrying", 1), ("step", "completed", 2)]
    assert {entry.node for entry in kept.journal} == {"email", "sms"}
    assert {entry.iteration for entry in kept.journal} == {None}
    assert kept.entry("email").result == 1
    assert kept.entry("sms").result == 2


async def test_the_failed_entry_is_journaled_failed_and_a_completed_one_completed(sqlite: OnSqlite) -> None:
    met = asyncio.Barrier(2)

    async def good(ctx: Context) -> str:
        await met.wait()
        return "fine"

    async def bad(ctx: Context) -> None:
        await met.wait()
        raise Abort("for good")

    kept = await sqlite(durable("order").parallel("both", {"good": good, "bad": bad}))
    assert kept.rows("good") == [("step", "completed", 1)]
    assert kept.rows("bad") == [("step", "failed", 1)]
    assert kept.entry("bad", "failed").error == kept.failure


async def test_an_entry_once_journaled_is_never_run_again(sqlite: OnSqlite) -> None:
    done, stuck = Spy("done"), Spy("late")
    stop = asyncio.Event()

    async def slow(ctx: Context) -> str:
        result = await stuck.handle(ctx)
        if not stop.is_set():
            await asyncio.Event().wait()
        return str(result)

    order = durable("order").parallel("both", {"done": done.handle, "slow": slow})
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id

        async def one_is_journaled() -> bool:
            return [entry.node for entry in await app.journal(run_id)] == ["done"] and bool(stuck.calls)

        await work_until(app, one_is_journaled)
        stop.set()
        async with app.worker():
            kept = await ended(app, run_id)
    assert kept.results == {"done": "done", "slow": "late"}
    assert (done.attempts, stuck.attempts) == ([1], [1, 1])
    assert sorted(kept.rows()) == [("step", "completed", 1)] * 2
