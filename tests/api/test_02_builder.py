"""Authoring: a workflow is data, built by methods that return it, checked while it is built, closed by `register`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, DefinitionError, Durable, DurableError, Workflow, durable
from tests.api.handlers import nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.runs import Runner


def choose(ctx: Context) -> str:
    return "air"


async def again(input: Any, ctx: Context) -> Any:
    return input


def every_kind(workflow: Workflow) -> list[Workflow]:
    """Add a node of each kind, and give what each builder method returned."""
    return [
        workflow.step("reserve", nothing),
        workflow.parallel("notify", {"email": nothing, "sms": Branch(nothing, compensate=nothing)}),
        workflow.route("ship", choose, {"air": nothing, "sea": Branch(nothing, compensate=nothing)}),
        workflow.loop("poll", again, max_iterations=2),
        workflow.sleep("cool_off", 0),
        workflow.wait_for_signal("signoff", "founder-signoff"),
        workflow.child_workflow("invoice", "invoicing"),
    ]


def test_a_workflow_has_its_name_and_its_nodes_in_order() -> None:
    order = durable("order")
    every_kind(order)
    assert order.name == "order"
    assert [node.name for node in order.nodes] == [
        *("reserve", "notify", "ship", "poll", "cool_off", "signoff", "invoice")
    ]


def test_every_builder_method_returns_the_same_workflow() -> None:
    order = durable("order")
    assert all(returned is order for returned in every_kind(order))


async def test_a_workflow_that_grew_in_several_statements_runs_as_one_that_was_chained(runner: Runner) -> None:
    order = durable("order")
    order.step("first", lambda ctx: 1)
    order.step("second", lambda ctx: ctx.results["first"] + 1)
    assert (await runner(order)).results == {"first": 1, "second": 2}


def test_two_workflows_do_not_share_nodes() -> None:
    one, other = durable("one").step("a", nothing), durable("other").step("b", nothing)
    assert [node.name for node in one.nodes] == ["a"]
    assert [node.name for node in other.nodes] == ["b"]


# After register a workflow is closed.


CLOSED: list[Callable[[Workflow], object]] = [
    lambda workflow: workflow.step("late", nothing),
    lambda workflow: workflow.parallel("late", {"entry": nothing}),
    lambda workflow: workflow.route("late", choose, {"air": nothing}),
    lambda workflow: workflow.loop("late", again, max_iterations=1),
    lambda workflow: workflow.sleep("late", 1),
    lambda workflow: workflow.wait_for_signal("late", "signoff"),
    lambda workflow: workflow.child_workflow("late", "invoicing"),
    lambda workflow: workflow.step("late")(nothing),
    lambda workflow: workflow.loop("late", max_iterations=1)(again),
]


@pytest.mark.parametrize("add", CLOSED)
def test_a_registered_workflow_is_closed(add: Callable[[Workflow], object]) -> None:
    order = durable("order").step("reserve", nothing)
    Durable("sqlite://").register(order)
    with pytest.raises(DefinitionError, match="order"):
        add(order)
    assert [node.name for node in order.nodes] == ["reserve"]


def test_a_workflow_given_to_an_app_is_closed_as_well() -> None:
    order = durable("order").step("reserve", nothing)
    Durable("sqlite://", workflows=[order])
    with pytest.raises(DefinitionError, match="order"):
        order.step("late", nothing)


def test_a_decorator_kept_until_the_workflow_is_closed_adds_nothing() -> None:
    order = durable("order").step("reserve", nothing)
    late = order.step("late")
    Durable("sqlite://", workflows=[order])
    with pytest.raises(DefinitionError, match="order"):
        late(nothing)


async def test_running_in_memory_does_not_close_a_workflow() -> None:
    order = durable("order").step("first", lambda ctx: 1)
    await order.run()
    order.step("second", lambda ctx: 2)
    assert (await order.run()).results == {"first": 1, "second": 2}


async def test_a_closed_workflow_runs_in_memory_and_in_a_second_app() -> None:
    order = durable("order").step("first", lambda ctx: 1)
    for _ in range(2):
        async with Durable("sqlite://", workflows=[order]) as app, app.worker():
            run_id = (await app.start(order)).run_id
            assert await app.result(run_id, timeout=30) == {"first": 1}
    assert (await order.run()).results == {"first": 1}


def test_a_second_workflow_of_one_name_is_refused_and_the_first_stays() -> None:
    app = Durable("sqlite://", workflows=[durable("order").step("reserve", nothing)])
    with pytest.raises(DurableError, match="order"):
        app.register(durable("order").step("reserve", nothing))


# Without a handler, step and loop are decorators.


async def test_step_without_a_handler_is_a_decorator_that_returns_the_function_unchanged(runner: Runner) -> None:
    order = durable("order")

    async def reserve(ctx: Context) -> str:
        return "reserved"

    assert order.step("reserve")(reserve) is reserve
    assert (await runner(order)).results == {"reserve": "reserved"}


async def test_loop_without_a_handler_is_a_decorator_that_returns_the_function_unchanged(runner: Runner) -> None:
    order = durable("order")

    def count(input: int, ctx: Context) -> int:
        return input + 1

    assert order.loop("count", max_iterations=3, feedback=lambda result: result)(count) is count
    assert (await runner(order, 0)).results == {"count": 3}


async def test_the_decorators_take_the_same_options(runner: Runner) -> None:
    order = durable("order")
    undone: list[tuple[str, int | None]] = []

    def undo(ctx: Context) -> None:
        undone.append((ctx.step, ctx.iteration))

    @order.step("reserve", compensate=undo, when=lambda ctx: True)
    async def reserve(ctx: Context) -> None: ...

    async def count(input: Any, ctx: Context) -> None: ...

    order.loop("count", max_iterations=2, compensate=undo, until=lambda result, iteration: False)(count)

    @order.step("skipped", when=lambda ctx: False)
    async def skipped(ctx: Context) -> None: ...

    attempts: list[int] = []

    @order.step("close", max_retries=1, retry_backoff=0.01, timeout=5, retry_on=OSError, give_up_on=ValueError)
    async def close(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise OSError("closed")

    assert (await runner(order)).failure.node == "close"
    assert attempts == [1, 2]
    assert undone == [("count", 2), ("count", 1), ("reserve", None)]


async def test_the_order_of_the_nodes_is_the_order_of_decorating(runner: Runner) -> None:
    order = durable("order")

    @order.step("first")
    def first(ctx: Context) -> list[str]:
        return sorted(ctx.results)

    order.step("second", lambda ctx: sorted(ctx.results))

    @order.step("third")
    def third(ctx: Context) -> list[str]:
        return sorted(ctx.results)

    assert (await runner(order)).results == {"first": [], "second": ["first"], "third": ["first", "second"]}


# Durations are a timedelta or seconds, everywhere.


@pytest.mark.parametrize("duration", [timedelta(milliseconds=5), 0.005, 0, 1])
def test_a_duration_is_a_timedelta_or_seconds_in_every_place(duration: timedelta | float) -> None:
    order = (
        durable("order")
        .step("reserve", nothing, retry_backoff=duration)
        .parallel("notify", {"email": nothing}, retry_backoff=duration)
        .route("ship", choose, {"air": nothing}, retry_backoff=duration)
        .loop("poll", again, max_iterations=2, pause=duration, retry_backoff=duration)
        .sleep("cool_off", duration)
        .wait_for_signal("signoff", "founder-signoff", timeout=timedelta(days=3))
        .wait_for_signal("second", "founder-signoff", timeout=1.5)
        .step("close", nothing, timeout=timedelta(seconds=1))
        .step("closed", nothing, timeout=1)
    )
    assert len(order.nodes) == 9


def test_an_instant_is_an_aware_datetime() -> None:
    order = (
        durable("order")
        .sleep("until", datetime.now(UTC))
        .loop("poll", again, max_iterations=2, pause=datetime.now(UTC))
    )
    assert len(order.nodes) == 2


def test_a_child_is_named_by_its_workflow_or_by_name() -> None:
    invoicing = durable("invoicing").step("write", nothing)
    order = durable("order").child_workflow("one", invoicing).child_workflow("two", "invoicing")
    assert [node.name for node in order.nodes] == ["one", "two"]
