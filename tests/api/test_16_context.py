"""Context: what a handler is given, read-only, with its own copy of every value."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, durable
from tests.api.handlers import LineDownError, Spy, fail, nothing

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite, Runner

FIELDS = ("input", "results", "run_id", "workflow", "step", "attempt", "iteration", "idempotency_key", "resume_data")


async def test_a_handler_is_given_a_context_with_all_its_fields(runner: Runner) -> None:
    seen: list[Context] = []

    async def handle(ctx: Context) -> None:
        seen.append(ctx)
        assert (ctx.input, ctx.workflow, ctx.step, ctx.attempt) == ({"id": 7}, "order", "b", 1)
        assert (ctx.iteration, ctx.resume_data) == (None, None)
        assert isinstance(ctx.results, Mapping)
        assert dict(ctx.results) == {"a": 1}
        assert isinstance(ctx.idempotency_key, str)
        assert uuid.UUID(ctx.run_id).version == 7

    await runner(durable("order").step("a", lambda ctx: 1).step("b", handle, max_retries=0), {"id": 7})
    assert isinstance(seen[0], Context)


async def test_the_run_id_is_the_one_start_returned(sqlite: OnSqlite) -> None:
    spy = Spy()
    order = durable("order").step("a", spy.handle).loop("b", spy.iterate, max_iterations=1)
    kept = await sqlite(order)
    assert {call.run_id for call in spy.calls} == {kept.run_id}


async def test_the_run_id_is_the_same_in_every_node(runner: Runner) -> None:
    spy = Spy("b")
    order = (
        durable("order")
        .step("a", spy.handle)
        .parallel("all", {"b": spy.handle})
        .route("c", spy.decide, {"b": spy.handle})
        .loop("d", spy.iterate, max_iterations=2, map_input=spy.decide)
    )
    await runner(order)
    assert len(spy.calls) == 7
    assert len({call.run_id for call in spy.calls}) == 1


@pytest.mark.parametrize("field", FIELDS)
async def test_the_context_is_read_only(runner: Runner, field: str) -> None:
    async def handle(ctx: Context) -> str:
        before = getattr(ctx, field)
        with pytest.raises(AttributeError):
            setattr(ctx, field, "changed")
        with pytest.raises((AttributeError, TypeError)):
            delattr(ctx, field)
        assert getattr(ctx, field) == before
        return "unchanged"

    assert (await runner(durable("order").step("a", handle, max_retries=0))).results == {"a": "unchanged"}


async def test_results_are_a_mapping_by_name(runner: Runner) -> None:
    async def handle(ctx: Context) -> list[Any]:
        assert "nowhere" not in ctx.results
        assert ctx.results.get("nowhere") is None
        with pytest.raises(KeyError, match="nowhere"):
            ctx.results["nowhere"]
        assert len(ctx.results) == 2
        return [ctx.results["a"], sorted(ctx.results), sorted(ctx.results.values())]

    order = durable("order").step("a", lambda ctx: 1).step("b", lambda ctx: 2).step("c", handle, max_retries=0)
    assert (await runner(order)).results["c"] == [1, ["a", "b"], [1, 2]]


async def test_attempts_count_from_one_and_results_stay_those_before_the_node(runner: Runner) -> None:
    spy = Spy("ok", failures=2)
    await runner(durable("order").step("a", lambda ctx: 1).step("b", spy.handle, retry_backoff=0.01))
    assert spy.attempts == [1, 2, 3]
    assert [call.results for call in spy.calls] == [{"a": 1}] * 3


# A handler gets its own copy of values.


async def test_what_a_handler_changes_nobody_else_sees(runner: Runner) -> None:
    seen: list[Any] = []

    async def meddle(ctx: Context) -> None:
        seen.append((list(ctx.input["items"]), list(ctx.results["a"])))
        ctx.input["items"].append("changed")
        ctx.results["a"].append("changed")
        with contextlib.suppress(TypeError):
            ctx.results["z"] = "changed"  # type: ignore[index]
        if ctx.attempt == 1:
            raise LineDownError("once")

    given = {"items": [1]}
    order = durable("order").step("a", lambda ctx: ["kept"]).step("b", meddle, retry_backoff=0.01)
    order.parallel("all", {"c": meddle, "d": meddle}, retry_backoff=0.01).route(
        "e", lambda ctx: "f", {"f": meddle}, retry_backoff=0.01
    )
    outcome = await runner(order, given)
    assert seen == [([1], ["kept"])] * 8
    assert outcome.results["a"] == ["kept"]
    assert "z" not in outcome.results
    assert given == {"items": [1]}


async def test_plain_functions_of_a_node_have_their_own_copies_too(runner: Runner) -> None:
    seen: list[Any] = []

    def meddle(ctx: Context) -> Any:
        seen.append(list(ctx.input))
        ctx.input.append("changed")
        return "b"

    order = (
        durable("order")
        .step("a", meddle, when=meddle)
        .route("r", meddle, {"b": meddle}, when=meddle)
        .loop("l", lambda input, ctx: seen.append(list(ctx.input)), max_iterations=1, map_input=meddle)
    )
    await runner(order, [1])
    assert seen == [[1]] * 7


async def test_what_is_changed_after_it_was_returned_nobody_else_sees(runner: Runner) -> None:
    shared: list[str] = ["returned"]

    async def give(ctx: Context) -> list[str]:
        return shared

    async def change(ctx: Context) -> list[str]:
        shared.append("changed")
        return list(ctx.results["a"])

    outcome = await runner(durable("order").step("a", give).step("b", change))
    assert outcome.results == {"a": ["returned"], "b": ["returned"]}


async def test_what_the_caller_changes_after_starting_the_run_does_not_see(sqlite: OnSqlite) -> None:
    given = [1]
    order = durable("order").step("a", lambda ctx: ctx.input)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order, given)).run_id
        given.append(2)
        async with app.worker():
            assert await app.result(run_id, timeout=30) == {"a": [1]}


# The idempotency key.


async def test_every_call_of_a_run_has_another_idempotency_key(runner: Runner) -> None:
    spy = Spy("b")
    undo = Spy()
    order = (
        durable("order")
        .step("a", spy.handle, compensate=undo.handle)
        .parallel("all", {"b": Branch(spy.handle, compensate=undo.handle), "c": spy.handle})
        .route("d", lambda ctx: "b", {"b": Branch(spy.handle, compensate=undo.handle)})
        .loop("e", spy.iterate, max_iterations=3, compensate=undo.handle)
        .step("last", fail, max_retries=0)
    )
    await runner(order)
    keys = spy.keys + undo.keys
    assert len(keys) == 13
    assert len(set(keys)) == len(keys)


async def test_the_key_stays_over_attempts(runner: Runner) -> None:
    step, entry, branch = Spy("b", failures=2), Spy(failures=2), Spy(failures=2)
    order = (
        durable("order")
        .step("a", step.handle, retry_backoff=0.01)
        .parallel("all", {"b": entry.handle}, retry_backoff=0.01)
        .route("c", lambda ctx: "d", {"d": branch.handle}, retry_backoff=0.01)
    )
    await runner(order)
    for spy in (step, entry, branch):
        assert len(spy.keys) == 3
        assert len(set(spy.keys)) == 1


async def test_the_key_stays_over_the_attempts_of_an_iteration(runner: Runner) -> None:
    keys: dict[int | None, set[str]] = {}

    async def poll(input: Any, ctx: Context) -> None:
        keys.setdefault(ctx.iteration, set()).add(ctx.idempotency_key)
        if ctx.attempt == 1:
            raise LineDownError("once")

    await runner(durable("order").loop("poll", poll, max_iterations=3, retry_backoff=0.01))
    assert [len(of_one) for of_one in keys.values()] == [1, 1, 1]
    assert len(set().union(*keys.values())) == 3


async def test_two_runs_have_different_keys(runner: Runner) -> None:
    spy = Spy()
    order = durable("order").step("a", spy.handle)
    await runner(order, "same")
    await runner(order, "same")
    first, second = spy.keys
    assert first != second


async def test_the_context_of_side_by_side_handlers_is_their_own(runner: Runner) -> None:
    met = asyncio.Barrier(2)

    async def meet(ctx: Context) -> list[Any]:
        before = [ctx.step, ctx.idempotency_key]
        await met.wait()
        assert [ctx.step, ctx.idempotency_key] == before
        return before

    results = (await runner(durable("order").parallel("all", {"a": meet, "b": meet}, max_retries=0))).results
    assert (results["a"][0], results["b"][0]) == ("a", "b")
    assert results["a"][1] != results["b"][1]


async def test_a_completed_run_keeps_nothing_a_handler_returned_as_none(runner: Runner) -> None:
    spy = Spy()
    await runner(durable("order").step("a", nothing).step("b", spy.handle))
    assert spy.calls[0].results == {"a": None}
