"""Compensation, the compensators themselves: their policy, attempts, keys, failures and journal rows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Branch, Context, durable
from tests.api.handlers import LineDownError, Spy, fail, nothing
from tests.api.runs import ended, work_until

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite, Runner


async def test_a_compensator_has_the_nodes_policy_and_its_own_attempts(runner: Runner) -> None:
    handle, undo = Spy("ok", failures=1), Spy(failures=2)
    order = durable("order").step("a", handle.handle, compensate=undo.handle, max_retries=2, retry_backoff=0.01)
    assert (await runner(order.step("b", fail, max_retries=0))).compensated == ["a"]
    assert undo.attempts == [1, 2, 3]


async def test_a_compensators_idempotency_key_is_its_own_and_stable(runner: Runner) -> None:
    handle, undo = Spy("ok", failures=1), Spy(failures=1)
    order = durable("order").step("a", handle.handle, compensate=undo.handle, retry_backoff=0.01)
    await runner(order.step("b", fail, max_retries=0))
    assert len(set(handle.keys)) == len(set(undo.keys)) == 1
    assert handle.keys[0] != undo.keys[0]


async def test_one_that_exhausts_its_attempts_does_not_stop_the_others(runner: Runner) -> None:
    first, broken, last = Spy(), Spy(failures=9), Spy()
    order = (
        durable("order")
        .step("a", nothing, compensate=last.handle)
        .step("b", nothing, compensate=broken.handle, max_retries=1, retry_backoff=0.01)
        .step("c", nothing, compensate=first.handle)
        .step("d", fail, max_retries=0)
    )
    outcome = await runner(order)
    assert (len(first.calls), broken.attempts, len(last.calls)) == (1, [1, 2], 1)
    assert outcome.compensated == ["c", "a"]
    assert (outcome.failure.node, outcome.failure.type) == ("d", "LineDownError")


async def test_a_compensator_that_aborts_gives_up_at_once(runner: Runner) -> None:
    attempts: list[int] = []

    async def undo(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise Abort("cannot be undone")

    order = durable("order").step("a", nothing, compensate=undo).step("b", fail, max_retries=0)
    assert (await runner(order)).compensated == []
    assert attempts == [1]


async def test_retry_on_and_give_up_on_hold_for_compensators(runner: Runner) -> None:
    undo = Spy(failures=9)
    order = durable("order").step("a", nothing, compensate=undo.handle, give_up_on=LineDownError)
    assert (await runner(order.step("b", fail, max_retries=0))).compensated == []
    assert undo.attempts == [1]


async def test_the_timeout_holds_for_compensators(runner: Runner) -> None:
    attempts: list[int] = []

    async def undo(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            await asyncio.Event().wait()

    order = durable("order").step("a", nothing, compensate=undo, timeout=0.05, retry_backoff=0.01)
    assert (await runner(order.step("b", fail, max_retries=0))).compensated == ["a"]
    assert attempts == [1, 2]


@pytest.mark.parametrize("returned", [{1, 2}, object(), float("nan"), "text", None])
async def test_what_a_compensator_returns_is_dropped(runner: Runner, returned: Any) -> None:
    order = durable("order").step("a", nothing, compensate=lambda ctx: returned).step("b", fail, max_retries=0)
    assert (await runner(order)).compensated == ["a"]


async def test_compensators_run_one_at_a_time(runner: Runner) -> None:
    running, most = 0, 0

    async def undo(ctx: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(50):
            await asyncio.sleep(0)
        running -= 1

    entries = {f"entry{n}": Branch(nothing, compensate=undo) for n in range(4)}
    order = durable("order").step("a", nothing, compensate=undo).parallel("all", entries).step("b", fail, max_retries=0)
    assert len((await runner(order)).compensated) == 5
    assert most == 1


# What is journaled, and what the run shows.


async def test_compensations_are_journaled_in_the_order_they_were_done(sqlite: OnSqlite) -> None:
    order = (
        durable("order")
        .step("a", nothing, compensate=nothing)
        .step("b", nothing, compensate=Spy(failures=1).handle, retry_backoff=0.01)
        .loop("c", lambda input, ctx: None, max_iterations=2, compensate=nothing)
        .step("d", fail, max_retries=0)
    )
    kept = await sqlite(order)
    rows = [(entry.node, entry.status, entry.attempt, entry.iteration) for entry in kept.journal[-5:]]
    assert rows == [
        ("c", "completed", 1, 2),
        ("c", "completed", 1, 1),
        ("b", "retrying", 1, None),
        ("b", "completed", 2, None),
        ("a", "completed", 1, None),
    ]
    assert [entry.kind for entry in kept.journal] == ["step"] * 5 + ["compensate"] * 5
    assert {entry.result for entry in kept.journal[-5:]} == {None}
    assert list(kept.snapshot.compensated) == kept.compensated == ["c", "c", "b", "a"]


async def test_one_out_of_attempts_is_journaled_failed_with_its_error(sqlite: OnSqlite) -> None:
    undo = Spy(failures=9)
    order = durable("order").step("a", nothing, compensate=undo.handle, max_retries=1, retry_backoff=0.01)
    kept = await sqlite(order.step("b", fail, max_retries=0))
    assert kept.rows("a") == [("step", "completed", 1), ("compensate", "retrying", 1), ("compensate", "failed", 2)]
    error = kept.journal[-1].error
    assert error is not None
    assert (error.node, error.type) == ("a", "LineDownError")
    assert list(kept.snapshot.compensated) == []


async def test_entries_and_branches_are_undone_under_their_names(sqlite: OnSqlite) -> None:
    undoable = Branch(nothing, compensate=nothing)
    order = durable("order").parallel("all", {"entry": undoable}).route("ship", lambda ctx: "air", {"air": undoable})
    kept = await sqlite(order.step("last", fail, max_retries=0))
    undone = [entry.node for entry in kept.journal if entry.kind == "compensate"]
    assert undone == ["ship", "entry"]


async def test_a_run_is_compensating_until_all_is_undone(sqlite: OnSqlite) -> None:
    seen: list[Any] = []

    async def undo(ctx: Context) -> None:
        seen.append(await app.status(ctx.run_id))

    order = durable("order").step("a", nothing, compensate=undo).step("b", fail, max_retries=0)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        async with app.worker():
            kept = await ended(app, run_id)
    assert [snapshot.status for snapshot in seen] == ["compensating"]
    assert seen[0].error == kept.failure
    assert kept.snapshot.status == "failed"
    assert kept.failure.node == "b"


async def test_a_worker_that_stops_in_a_compensation_leaves_it_to_the_next(sqlite: OnSqlite) -> None:
    go_on = asyncio.Event()
    newest, middle, oldest = Spy(), Spy(), Spy()

    async def slow(ctx: Context) -> None:
        await middle.handle(ctx)
        if not go_on.is_set():
            await asyncio.Event().wait()

    order = (
        durable("order")
        .step("a", nothing, compensate=oldest.handle)
        .step("b", nothing, compensate=slow)
        .step("c", nothing, compensate=newest.handle)
        .step("d", fail, max_retries=0)
    )
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        await work_until(app, lambda: bool(middle.calls))
        assert (await app.status(run_id)).status == "compensating"
        assert list((await app.status(run_id)).compensated) == ["c"]
        go_on.set()
        async with app.worker():
            kept = await ended(app, run_id)
    assert kept.compensated == ["c", "b", "a"]
    assert (newest.attempts, middle.attempts, oldest.attempts) == ([1], [1, 1], [1])
    assert len(set(middle.keys)) == 1


async def test_a_run_that_waits_to_retry_a_compensator_says_when(sqlite: OnSqlite) -> None:
    undo = Spy(failures=9)
    order = durable("order").step("a", nothing, compensate=undo.handle, retry_backoff=3600)
    async with sqlite.open(order.step("b", fail, max_retries=0)) as app:
        run_id = (await app.start(order)).run_id

        async def waits() -> bool:
            return (await app.status(run_id)).wake_at is not None

        await work_until(app, waits)
        snapshot = await app.status(run_id)
    assert snapshot.status == "compensating"
    assert undo.attempts == [1]
