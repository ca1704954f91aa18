"""The route node: a resolver chooses a branch, the choice is journaled, then the branch runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, durable
from tests.api.handlers import LineDownError, Spy, nothing
from tests.api.runs import ended, work_until

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite, Runner


def carrier(ctx: Context) -> str:
    return str(ctx.input)


@pytest.mark.parametrize(("name", "result"), [("air", "by plane"), ("sea", "by ship")])
async def test_the_result_of_the_chosen_branch_is_under_the_nodes_name(runner: Runner, name: str, result: str) -> None:
    air, sea = Spy("by plane"), Spy("by ship")
    order = durable("order").route("ship", carrier, {"air": air.handle, "sea": Branch(sea.handle)})
    assert (await runner(order, name)).results == {"ship": result}
    assert (len(air.calls), len(sea.calls)) == ((1, 0) if name == "air" else (0, 1))


async def test_the_resolver_may_be_async_and_sees_the_results_so_far(runner: Runner) -> None:
    async def choose(ctx: Context) -> str:
        await asyncio.sleep(0)
        return str(ctx.results["weigh"])

    order = durable("order").step("weigh", lambda ctx: "sea").route("ship", choose, {"air": nothing, "sea": carrier})
    assert (await runner(order, "input")).results == {"weigh": "sea", "ship": "input"}


async def test_the_context_of_resolver_and_branch_names_the_node(runner: Runner) -> None:
    resolver, branch = Spy("air"), Spy()
    order = durable("order").step("weigh", lambda ctx: 1).route("ship", resolver.decide, {"air": branch.handle})
    await runner(order)
    for call in (resolver.calls[0], branch.calls[0]):
        assert (call.step, call.attempt, call.iteration, call.results) == ("ship", 1, None, {"weigh": 1})


async def test_choosing_and_the_branch_each_have_the_policys_attempts_from_one(runner: Runner) -> None:
    resolver, branch = Spy("air", failures=2), Spy("flown", failures=2)
    order = durable("order").route("ship", resolver.decide, {"air": branch.handle}, max_retries=2, retry_backoff=0.01)
    assert (await runner(order)).results == {"ship": "flown"}
    assert resolver.attempts == [1, 2, 3]
    assert branch.attempts == [1, 2, 3]


async def test_a_branch_that_is_retried_is_not_chosen_again(runner: Runner) -> None:
    resolver, branch = Spy("air"), Spy(failures=3)
    await runner(durable("order").route("ship", resolver.decide, {"air": branch.handle}, retry_backoff=0.01))
    assert len(resolver.calls) == 1
    assert len(branch.calls) == 4


async def test_a_resolver_out_of_attempts_fails_the_node(runner: Runner) -> None:
    resolver, branch = Spy("air", failures=9), Spy()
    order = durable("order").route("ship", resolver.decide, {"air": branch.handle}, max_retries=1, retry_backoff=0.01)
    failure = (await runner(order)).failure
    assert (failure.node, failure.type) == ("ship", "LineDownError")
    assert resolver.attempts == [1, 2]
    assert branch.calls == []


@pytest.mark.parametrize("choice", ["rail", "", None, 3])
async def test_an_unknown_branch_fails_the_node_without_retries_naming_the_known(runner: Runner, choice: Any) -> None:
    resolver, air, sea = Spy(choice), Spy(), Spy()
    branches = {"air": air.handle, "sea": sea.handle}
    outcome = await runner(durable("order").route("ship", resolver.decide, branches, retry_backoff=0.01))
    assert (outcome.failure.node, outcome.failure.type) == ("ship", "UnknownBranch")
    assert "air" in outcome.failure.message
    assert "sea" in outcome.failure.message
    assert str(choice) in outcome.failure.message
    assert len(resolver.calls) == 1
    assert air.calls == sea.calls == []


# What is journaled.


async def test_the_choice_is_journaled_before_the_branch(sqlite: OnSqlite) -> None:
    resolver, branch = Spy("air", failures=1), Spy("flown", failures=1)
    order = durable("order").route("ship", resolver.decide, {"air": branch.handle, "sea": nothing}, retry_backoff=0.01)
    kept = await sqlite(order)
    assert kept.rows("ship") == [
        ("route", "retrying", 1),
        ("route", "completed", 2),
        ("step", "retrying", 1),
        ("step", "completed", 2),
    ]
    assert kept.journal[1].result == "air"
    assert kept.journal[3].result == "flown"
    assert {entry.node for entry in kept.journal} == {"ship"}


async def test_the_choice_is_stored_when_the_branch_begins(sqlite: OnSqlite) -> None:
    seen: list[tuple[str, str, Any]] = []
    order = durable("order")

    async def fly(ctx: Context) -> None:
        seen.extend((entry.kind, entry.status, entry.result) for entry in await app.journal(ctx.run_id))

    order.route("ship", carrier, {"air": fly})
    async with sqlite.open(order) as app:
        run_id = (await app.start(order, "air")).run_id
        async with app.worker():
            await ended(app, run_id)
    assert seen == [("route", "completed", "air")]


async def test_an_unknown_branch_is_journaled_as_one_failed_choice(sqlite: OnSqlite) -> None:
    kept = await sqlite(durable("order").route("ship", carrier, {"air": nothing}), "rail")
    assert kept.rows() == [("route", "failed", 1)]
    assert kept.journal[0].error == kept.failure


async def test_a_failed_branch_leaves_the_choice_completed(sqlite: OnSqlite) -> None:
    order = durable("order").route("ship", carrier, {"air": Spy(failures=9).handle}, max_retries=0)
    kept = await sqlite(order, "air")
    assert kept.rows() == [("route", "completed", 1), ("step", "failed", 1)]
    assert kept.failure.node == "ship"


async def test_a_worker_that_stops_in_the_branch_does_not_make_the_next_choose_again(sqlite: OnSqlite) -> None:
    choices = ["air", "sea"]
    resolver_calls, branch = Spy(), Spy("flown")
    go_on = asyncio.Event()

    def choose(ctx: Context) -> str:
        resolver_calls.decide(ctx)
        return choices[len(resolver_calls.calls) - 1]

    async def fly(ctx: Context) -> Any:
        result = await branch.handle(ctx)
        if not go_on.is_set():
            await asyncio.Event().wait()
        return result

    async def sail(ctx: Context) -> None:
        raise LineDownError("chosen again")

    order = durable("order").route("ship", choose, {"air": fly, "sea": sail}, max_retries=0)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        await work_until(app, lambda: bool(branch.calls))
        go_on.set()
        async with app.worker():
            kept = await ended(app, run_id)
    assert kept.results == {"ship": "flown"}
    assert len(resolver_calls.calls) == 1
    assert branch.attempts == [1, 1]
    assert kept.rows() == [("route", "completed", 1), ("step", "completed", 1)]
