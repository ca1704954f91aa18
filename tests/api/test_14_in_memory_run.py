"""`workflow.run`: the same definition without a store, for scripts and tests."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, DurableError, PayloadError, RunFailedError, RunResult, Workflow, durable
from tests.api.handlers import LineDownError, Spy, fail, nothing

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite


async def add(ctx: Context) -> int:
    return int(ctx.input) + 1


async def test_it_returns_the_results_and_how_long_it_took() -> None:
    ran = await durable("order").step("add", add).sleep("nap", 0.1).run(1)
    assert isinstance(ran, RunResult)
    assert ran.results == {"add": 2, "nap": None}
    assert ran.duration.total_seconds() >= 0.09


async def test_the_result_is_frozen() -> None:
    ran = await durable("order").step("add", add).run(1)
    assert is_dataclass(ran)
    with pytest.raises(AttributeError):
        ran.results = {}  # type: ignore[misc]


async def test_without_input_the_input_is_none() -> None:
    spy = Spy()
    await durable("order").step("a", spy.handle).run()
    assert spy.calls[0].input is None


async def test_the_error_is_raised_from_the_handlers_exception() -> None:
    raised: list[LineDownError] = []

    async def charge(ctx: Context) -> None:
        raised.append(LineDownError(f"attempt {ctx.attempt}"))
        raise raised[-1]

    with pytest.raises(RunFailedError) as caught:
        await durable("order").step("charge", charge, max_retries=1, retry_backoff=0.01).run()
    assert caught.value.__cause__ is raised[-1]
    assert len(raised) == 2


async def test_the_cause_is_what_failed_the_run_although_a_compensator_failed_later() -> None:
    error = LineDownError("down")

    async def charge(ctx: Context) -> None:
        raise error

    async def undo(ctx: Context) -> None:
        raise ValueError("it cannot be undone")

    order = durable("order").step("reserve", nothing, compensate=undo, max_retries=0)
    with pytest.raises(RunFailedError) as caught:
        await order.step("charge", charge, max_retries=0).run()
    assert caught.value.__cause__ is error
    assert caught.value.failed_compensations == ("reserve",)


async def test_the_error_of_a_plain_handler_is_the_cause_as_well() -> None:
    error = LineDownError("down")

    def charge(ctx: Context) -> None:
        raise error

    with pytest.raises(RunFailedError) as caught:
        await durable("order").step("charge", charge, max_retries=0).run()
    assert caught.value.__cause__ is error


async def test_the_cause_stays_the_handlers_exception_through_compensation() -> None:
    undo = Spy(failures=9)
    order = durable("order").step("a", nothing, compensate=undo.handle, max_retries=0).step("b", fail, max_retries=0)
    with pytest.raises(RunFailedError) as caught:
        await order.run()
    assert isinstance(caught.value.__cause__, LineDownError)
    assert caught.value.error.node == "b"


async def test_the_error_carries_the_same_facts_as_that_of_a_stored_run(sqlite: OnSqlite) -> None:
    order = durable("order").step("a", nothing, compensate=nothing).step("b", fail, max_retries=0)
    with pytest.raises(RunFailedError) as caught:
        await order.run()
    kept = await sqlite(order)
    in_memory, stored = caught.value, kept.error
    assert isinstance(in_memory, DurableError)
    assert in_memory.code == stored.code == "run_failed"
    for fact in ("node", "type", "message"):
        assert getattr(in_memory.error, fact) == getattr(stored.error, fact)
    assert list(in_memory.compensated) == list(stored.compensated) == ["a"]
    assert uuid.UUID(in_memory.run_id).version == uuid.UUID(stored.run_id).version == 7


async def test_the_run_has_an_id_of_its_own() -> None:
    spy = Spy()
    order = durable("order").step("a", spy.handle)
    await order.run()
    await order.run()
    first, second = (call.run_id for call in spy.calls)
    assert first != second
    assert uuid.UUID(first).version == 7


async def test_runs_side_by_side_do_not_mix() -> None:
    met = asyncio.Barrier(5)

    async def meet(ctx: Context) -> Any:
        await met.wait()
        return ctx.input

    order = durable("order").step("meet", meet).step("again", lambda ctx: ctx.results["meet"])
    ran = await asyncio.gather(*(order.run(number) for number in range(5)))
    assert [one.results for one in ran] == [{"meet": number, "again": number} for number in range(5)]


async def test_an_input_that_is_not_json_is_refused_at_the_call() -> None:
    spy = Spy()
    with pytest.raises(PayloadError, match="set"):
        await durable("order").step("a", spy.handle).run({"ids": {1, 2}})
    assert spy.calls == []


async def test_cancelling_it_cancels_the_handlers_in_flight() -> None:
    began, seen = asyncio.Event(), []

    async def wait(ctx: Context) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    running = asyncio.create_task(durable("order").step("wait", wait).run())
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen == ["cancelled"]


async def test_it_leaves_nothing_running_behind() -> None:
    before = asyncio.all_tasks()
    await durable("order").parallel("all", {"a": nothing, "b": lambda ctx: 1}).run()
    with pytest.raises(RunFailedError):
        await durable("order").step("a", fail, max_retries=0).run()
    assert asyncio.all_tasks() == before


def everything() -> Workflow:
    """A workflow of every node that needs no store, with failures on the way."""
    order: Workflow = (
        durable("everything")
        .step("step", Spy({"a": [1, None]}, failures=1).handle, retry_backoff=0.01)
        .parallel("parallel", {"one": Spy(1).handle, "two": Spy("2", failures=2).handle}, retry_backoff=0.01)
        .route("route", lambda ctx: ctx.results["two"], {"2": lambda ctx: sorted(ctx.results), "3": nothing})
        .loop("loop", lambda input, ctx: [input, ctx.iteration], max_iterations=3, feedback=lambda result: result)
        .sleep("sleep", 0.01)
        .step("skipped", fail, when=lambda ctx: False)
    )
    return order


async def test_in_memory_and_stored_runs_have_the_same_results(sqlite: OnSqlite) -> None:
    in_memory = (await everything().run({"in": 1})).results
    stored = (await sqlite(everything(), {"in": 1})).results
    assert in_memory == stored
    assert stored["loop"] == [[[{"in": 1}, 1], 2], 3]


async def test_the_results_are_the_callers_own() -> None:
    kept: list[Any] = []

    async def share(ctx: Context) -> list[Any]:
        return kept

    ran = await durable("order").step("share", share).run()
    ran.results["share"].append("changed")
    assert kept == []
