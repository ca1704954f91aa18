"""Compensation: when a node fails for good, each success with a compensator is undone once, newest first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, durable
from tests.api.handlers import LineDownError, Spy, fail, nothing

if TYPE_CHECKING:
    from tests.api.runs import Runner


class Undo:
    """A compensator that remembers, in order, what it was called for."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None, Any]] = []

    async def __call__(self, ctx: Context) -> None:
        self.seen.append((ctx.step, ctx.iteration, ctx.results[ctx.step]))


async def test_steps_are_undone_newest_first(runner: Runner) -> None:
    undo = Undo()
    order = (
        durable("order")
        .step("a", lambda ctx: 1, compensate=undo)
        .step("b", lambda ctx: 2, compensate=undo)
        .step("c", lambda ctx: 3, compensate=undo)
        .step("d", fail, max_retries=0)
    )
    outcome = await runner(order)
    assert undo.seen == [("c", None, 3), ("b", None, 2), ("a", None, 1)]
    assert outcome.compensated == ["c", "b", "a"]
    assert outcome.failure.node == "d"


async def test_what_failed_is_not_undone(runner: Runner) -> None:
    undo = Undo()
    order = durable("order").step("a", nothing).step("b", fail, compensate=undo, max_retries=0)
    assert (await runner(order)).compensated == []
    assert undo.seen == []


async def test_what_has_no_compensator_is_passed_over(runner: Runner) -> None:
    undo = Undo()
    order = durable("order").step("a", nothing, compensate=undo).step("b", nothing).sleep("nap", 0)
    assert (await runner(order.step("c", fail, max_retries=0))).compensated == ["a"]
    assert undo.seen == [("a", None, None)]


async def test_what_never_ran_is_not_undone(runner: Runner) -> None:
    undo = Undo()
    order = durable("order").step("a", fail, max_retries=0).step("b", nothing, compensate=undo)
    assert (await runner(order)).compensated == []
    assert undo.seen == []


async def test_a_run_that_completes_undoes_nothing(runner: Runner) -> None:
    undo = Undo()
    charge = Spy("paid", failures=2)
    order = durable("order").step("a", nothing, compensate=undo).step("b", charge.handle, retry_backoff=0.01)
    assert (await runner(order)).results == {"a": None, "b": "paid"}
    assert undo.seen == []


async def test_a_step_that_succeeded_after_failures_is_undone_once(runner: Runner) -> None:
    undo = Undo()
    order = durable("order").step("a", Spy("ok", failures=2).handle, compensate=undo, retry_backoff=0.01)
    await runner(order.step("b", fail, max_retries=0))
    assert undo.seen == [("a", None, "ok")]


async def test_entries_of_a_parallel_are_undone_in_reverse_order_of_completion(runner: Runner) -> None:
    undo = Undo()
    turns = {name: asyncio.Event() for name in ("a", "b", "c", "end")}

    def entry(after: str | None, name: str) -> Any:
        async def handle(ctx: Context) -> str:
            if after is not None:
                await turns[after].wait()
                for _ in range(100):
                    await asyncio.sleep(0)
            turns[name].set()
            return name

        return Branch(handle, compensate=undo)

    entries = {"a": entry("b", "a"), "b": entry(None, "b"), "c": entry("a", "c")}
    order = durable("order").parallel("all", entries).step("end", fail, max_retries=0)
    assert (await runner(order)).compensated == ["c", "a", "b"]
    assert undo.seen == [("c", None, "c"), ("a", None, "a"), ("b", None, "b")]


async def test_the_other_entries_of_a_failed_parallel_are_undone_and_the_failed_is_not(runner: Runner) -> None:
    undo = Undo()
    met = asyncio.Barrier(3)

    def entry(works: bool) -> Any:  # noqa: FBT001 - what the entry does
        async def handle(ctx: Context) -> str:
            await met.wait()
            if not works:
                raise LineDownError("down")
            return ctx.step

        return Branch(handle, compensate=undo)

    entries = {"good": entry(True), "bad": entry(False), "fine": entry(True), "plain": nothing}  # noqa: FBT003
    outcome = await runner(durable("order").parallel("all", entries, max_retries=0))
    assert sorted(outcome.compensated) == ["fine", "good"]
    assert sorted(undo.seen) == [("fine", None, "fine"), ("good", None, "good")]


@pytest.mark.parametrize("choice", ["air", "sea", "rail"])
async def test_only_the_chosen_branch_is_undone_under_the_nodes_name(runner: Runner, choice: str) -> None:
    air, sea = Undo(), Undo()
    branches: dict[str, Any] = {
        "air": Branch(lambda ctx: "flown", compensate=air),
        "sea": Branch(lambda ctx: "sailed", compensate=sea),
        "rail": nothing,
    }
    order = durable("order").route("ship", lambda ctx: choice, branches).step("close", fail, max_retries=0)
    outcome = await runner(order)
    assert outcome.compensated == ([] if choice == "rail" else ["ship"])
    assert air.seen == ([("ship", None, "flown")] if choice == "air" else [])
    assert sea.seen == ([("ship", None, "sailed")] if choice == "sea" else [])


async def test_a_branch_that_failed_is_not_undone(runner: Runner) -> None:
    undo = Undo()
    branches = {"air": Branch(fail, compensate=undo)}
    assert (await runner(durable("order").route("ship", lambda ctx: "air", branches, max_retries=0))).compensated == []
    assert undo.seen == []


def tens(value: object, ctx: Context) -> int:
    """Ten times the iteration's number."""
    assert ctx.iteration is not None
    return ctx.iteration * 10


async def test_each_iteration_of_a_loop_is_undone_newest_first_with_its_own_result(runner: Runner) -> None:
    undo = Undo()
    order = durable("order").loop("poll", tens, max_iterations=3, compensate=undo)
    outcome = await runner(order.step("close", fail, max_retries=0))
    assert undo.seen == [("poll", 3, 30), ("poll", 2, 20), ("poll", 1, 10)]
    assert outcome.compensated == ["poll", "poll", "poll"]


async def test_the_earlier_iterations_of_a_failed_loop_are_undone(runner: Runner) -> None:
    undo = Undo()

    async def poll(input: Any, ctx: Context) -> str:
        if ctx.iteration == 3:
            raise LineDownError("down")
        return f"result {ctx.iteration}"

    outcome = await runner(durable("order").loop("poll", poll, max_iterations=5, compensate=undo, max_retries=0))
    assert undo.seen == [("poll", 2, "result 2"), ("poll", 1, "result 1")]
    assert outcome.compensated == ["poll", "poll"]


async def test_the_order_is_that_of_completion_across_all_kinds(runner: Runner) -> None:
    undo = Undo()
    order = (
        durable("order")
        .step("a", nothing, compensate=undo)
        .loop("b", lambda input, ctx: ctx.iteration, max_iterations=2, compensate=undo)
        .parallel("c", {"d": Branch(nothing, compensate=undo)})
        .route("e", lambda ctx: "f", {"f": Branch(nothing, compensate=undo)})
        .step("g", nothing, compensate=undo)
        .step("h", fail, max_retries=0)
    )
    assert (await runner(order)).compensated == ["g", "e", "d", "b", "b", "a"]


# What a compensator sees.


async def test_a_compensator_sees_the_results_as_the_run_left_them(runner: Runner) -> None:
    undo_a, undo_b, undo_loop = Spy(), Spy(), Spy()
    order = (
        durable("order")
        .step("a", lambda ctx: 1, compensate=undo_a.handle)
        .loop("loop", lambda input, ctx: ctx.iteration, max_iterations=2, compensate=undo_loop.handle)
        .parallel("both", {"b": Branch(lambda ctx: 2, compensate=undo_b.handle), "c": lambda ctx: 3})
        .step("d", fail, max_retries=0)
    )
    await runner(order, "input")
    left = {"a": 1, "loop": 2, "b": 2, "c": 3}
    assert [call.results for call in (*undo_a.calls, *undo_b.calls)] == [left, left]
    assert [call.results for call in undo_loop.calls] == [left, {**left, "loop": 1}]
    assert {call.input for spy in (undo_a, undo_b, undo_loop) for call in spy.calls} == {"input"}


async def test_in_a_failed_parallel_the_results_are_those_of_the_entries_that_completed(runner: Runner) -> None:
    undo = Spy()
    good_ended = asyncio.Event()

    async def good(ctx: Context) -> str:
        good_ended.set()
        return "fine"

    async def bad(ctx: Context) -> None:
        await good_ended.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        raise LineDownError("down")

    order = durable("order").step("a", lambda ctx: 1, compensate=undo.handle)
    await runner(order.parallel("both", {"good": good, "bad": bad}, max_retries=0))
    assert undo.calls[0].results == {"a": 1, "good": "fine"}


async def test_the_context_of_a_compensator(runner: Runner) -> None:
    handle, undo, undo_entry = Spy(), Spy(), Spy()
    order = durable("order").step("a", handle.handle, compensate=undo.handle)
    order.parallel("all", {"b": Branch(nothing, compensate=undo_entry.handle)}).step("c", fail, max_retries=0)
    await runner(order)
    (call,) = undo.calls
    assert (call.workflow, call.step, call.attempt, call.iteration, call.resume_data) == ("order", "a", 1, None, None)
    assert call.run_id == handle.calls[0].run_id
    assert undo_entry.calls[0].step == "b"


async def test_what_a_compensator_changes_the_next_does_not_see(runner: Runner) -> None:
    lengths: list[int] = []

    def undo(ctx: Context) -> None:
        lengths.append(len(ctx.results["a"]))
        ctx.results["a"].append("changed")

    order = durable("order").step("a", lambda ctx: [], compensate=undo).step("b", nothing, compensate=undo)
    await runner(order.step("c", fail, max_retries=0))
    assert lengths == [0, 0]
