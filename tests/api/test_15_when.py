"""`when`: a condition on any node; what is skipped has one entry, its results are None, and nothing is undone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, Retry, Workflow, durable
from tests.api.handlers import LineDownError, Spy, fail, nothing
from tests.api.runs import ended, suspended, work_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.runs import OnSqlite, Runner


def invoicing() -> Workflow:
    return durable("invoicing").step("write", lambda ctx: "written")


# For each node: how to add it, what it leaves when it is not skipped, and when it is.
STORELESS: dict[str, Callable[[Workflow, Any], Workflow]] = {
    "step": lambda order, when: order.step("node", lambda ctx: 1, when=when),
    "parallel": lambda order, when: order.parallel("node", {"a": lambda ctx: 1, "b": lambda ctx: 2}, when=when),
    "route": lambda order, when: order.route("node", lambda ctx: "air", {"air": lambda ctx: 1}, when=when),
    "loop": lambda order, when: order.loop("node", lambda input, ctx: 1, max_iterations=2, when=when),
    "sleep": lambda order, when: order.sleep("node", 0, when=when),
}
STORED: dict[str, Callable[[Workflow, Any], Workflow]] = {
    "signal": lambda order, when: order.wait_for_signal("node", "signoff", timeout=0.05, default=1, when=when),
    "child": lambda order, when: order.child_workflow("node", "invoicing", when=when),
}
ANY = STORELESS | STORED
LEFT: dict[str, dict[str, Any]] = {
    "step": {"node": 1},
    "parallel": {"a": 1, "b": 2},
    "route": {"node": 1},
    "loop": {"node": 1},
    "sleep": {"node": None},
    "signal": {"node": 1},
    "child": {"node": {"write": "written"}},
}
SKIPPED = {kind: dict.fromkeys(left) for kind, left in LEFT.items()}
KINDS = {"parallel": "step", "loop": "step"}


@pytest.mark.parametrize("kind", STORELESS)
@pytest.mark.parametrize("goes", [True, False])
async def test_a_node_goes_or_is_skipped(runner: Runner, kind: str, goes: bool) -> None:  # noqa: FBT001 - a parameter of the test
    close = Spy()
    order = STORELESS[kind](durable("order"), lambda ctx: goes).step("close", close.handle)
    left = LEFT[kind] if goes else SKIPPED[kind]
    assert (await runner(order)).results == {**left, "close": None}
    assert close.calls[0].results == left


@pytest.mark.parametrize("kind", ANY)
@pytest.mark.parametrize("goes", [True, False])
async def test_every_node_takes_a_condition(sqlite: OnSqlite, kind: str, goes: bool) -> None:  # noqa: FBT001 - a parameter of the test
    order = ANY[kind](durable("order"), lambda ctx: goes)
    kept = await sqlite(order, children=[invoicing()])
    assert kept.results == (LEFT[kind] if goes else SKIPPED[kind])
    assert [entry.status for entry in kept.journal].count("skipped") == (0 if goes else 1)


@pytest.mark.parametrize("kind", ANY)
async def test_a_skipped_node_has_one_entry_under_its_name(sqlite: OnSqlite, kind: str) -> None:
    condition = Spy(False)  # noqa: FBT003 - the value the condition gives
    kept = await sqlite(ANY[kind](durable("order"), condition.decide), children=[invoicing()])
    (entry,) = kept.journal
    assert (entry.node, entry.kind, entry.status) == ("node", KINDS.get(kind, kind), "skipped")
    assert (entry.attempt, entry.iteration, entry.result, entry.error) == (1, None, None, None)
    assert len(condition.calls) == 1
    assert not kept.snapshot.children


@pytest.mark.parametrize("kind", ANY)
async def test_a_condition_is_given_the_context_of_its_node(sqlite: OnSqlite, kind: str) -> None:
    condition = Spy(False)  # noqa: FBT003 - the value the condition gives
    order = ANY[kind](durable("order").step("before", lambda ctx: 7), condition.decide)
    await sqlite(order, "input", children=[invoicing()])
    (call,) = condition.calls
    assert (call.step, call.attempt, call.iteration) == ("node", 1, None)
    assert (call.input, call.results, call.workflow) == ("input", {"before": 7}, "order")


async def test_a_condition_may_be_async_and_look_at_the_results(runner: Runner) -> None:
    async def is_large(ctx: Context) -> bool:
        await asyncio.sleep(0)
        return bool(ctx.results["weigh"] > 10)

    def order(weight: int) -> Workflow:
        return durable("order").step("weigh", lambda ctx: weight).step("crane", lambda ctx: "lifted", when=is_large)

    assert (await runner(order(11))).results["crane"] == "lifted"
    assert (await runner(order(9))).results["crane"] is None


@pytest.mark.parametrize("kind", STORELESS)
async def test_nothing_of_a_skipped_node_is_called(runner: Runner, kind: str) -> None:
    spy = Spy("air")
    no: dict[str, Any] = {"when": lambda ctx: False}
    nodes: dict[str, Callable[[], Workflow]] = {
        "step": lambda: durable("order").step("node", spy.handle, compensate=spy.handle, **no),
        "parallel": lambda: durable("order").parallel("node", {"a": Branch(spy.handle, compensate=spy.handle)}, **no),
        "route": lambda: durable("order").route("node", spy.decide, {"air": spy.handle}, **no),
        "loop": lambda: durable("order").loop(
            "node", spy.iterate, max_iterations=2, map_input=spy.decide, compensate=spy.handle, **no
        ),
        "sleep": lambda: durable("order").sleep("node", spy.decide, **no),
    }
    outcome = await runner(nodes[kind]().step("last", fail, max_retries=0))
    assert outcome.compensated == []
    assert spy.calls == []


async def test_a_skipped_child_is_not_undone(sqlite: OnSqlite) -> None:
    undo = Spy()
    order = durable("order").child_workflow("invoice", "invoicing", compensate=undo.handle, when=lambda ctx: False)
    kept = await sqlite(order.step("last", fail, max_retries=0), children=[invoicing()])
    assert kept.compensated == []
    assert undo.calls == []


async def test_the_first_and_the_last_node_and_all_of_them_may_be_skipped(sqlite: OnSqlite) -> None:
    order = durable("order").step("a", fail, when=lambda ctx: False).step("b", fail, when=lambda ctx: False)
    kept = await sqlite(order)
    assert kept.results == {"a": None, "b": None}
    assert kept.snapshot.status == "completed"
    assert kept.rows() == [("step", "skipped", 1), ("step", "skipped", 1)]


# Asked once.


@pytest.mark.parametrize("kind", ["step", "parallel", "route", "loop"])
async def test_a_true_answer_stands_once_an_attempt_is_journaled(sqlite: OnSqlite, kind: str) -> None:
    condition, handler = Spy(True), Spy("ok", failures=2)  # noqa: FBT003 - the value the condition gives
    options: dict[str, Any] = {"when": condition.decide, "retry_backoff": 0.01}
    nodes: dict[str, Callable[[], Workflow]] = {
        "step": lambda: durable("order").step("node", handler.handle, **options),
        "parallel": lambda: durable("order").parallel("all", {"node": handler.handle}, **options),
        "route": lambda: durable("order").route("node", lambda ctx: "b", {"b": handler.handle}, **options),
        "loop": lambda: durable("order").loop("node", handler.iterate, max_iterations=1, **options),
    }
    assert (await sqlite(nodes[kind]())).results == {"node": "ok"}
    assert handler.attempts == [1, 2, 3]
    assert len(condition.calls) == 1


async def test_in_memory_a_true_answer_stands_as_well() -> None:
    condition, handler = Spy(True), Spy("ok", failures=2)  # noqa: FBT003 - the value the condition gives
    order = durable("order").step("node", handler.handle, when=condition.decide, retry_backoff=0.01)
    assert (await order.run()).results == {"node": "ok"}
    assert len(condition.calls) == 1


async def test_a_true_answer_stands_for_a_run_that_sleeps_or_waits(sqlite: OnSqlite) -> None:
    condition = Spy(True)  # noqa: FBT003 - the value the condition gives
    order = durable("order").sleep("nap", 0.5, when=condition.decide)
    order.wait_for_signal("signoff", "signoff", when=condition.decide)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id

        async def naps() -> bool:
            return (await app.status(run_id)).wake_at is not None

        await work_until(app, naps)
        async with app.worker():
            await suspended(app, run_id)
        await app.signal(run_id, "signoff", "yes")
        async with app.worker():
            assert (await ended(app, run_id)).results == {"nap": None, "signoff": "yes"}
    assert [call.step for call in condition.calls] == ["nap", "signoff"]


async def test_a_condition_answered_no_is_not_asked_again_by_the_next_worker(sqlite: OnSqlite) -> None:
    condition, stuck = Spy(False), Spy()  # noqa: FBT003 - the value the condition gives
    go_on = asyncio.Event()

    async def wait(ctx: Context) -> None:
        await stuck.handle(ctx)
        if not go_on.is_set():
            await asyncio.Event().wait()

    order = durable("order").step("skipped", fail, when=condition.decide).step("wait", wait)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        await work_until(app, lambda: bool(stuck.calls))
        go_on.set()
        async with app.worker():
            assert (await ended(app, run_id)).results == {"skipped": None, "wait": None}
    assert len(condition.calls) == 1


# An error in the condition.


async def test_an_error_in_the_condition_is_a_failed_attempt_of_the_node(sqlite: OnSqlite) -> None:
    condition, handler = Spy(True, failures=1), Spy("ok")  # noqa: FBT003 - the value the condition gives
    order = durable("order").step("node", handler.handle, when=condition.decide, retry_backoff=0.01)
    kept = await sqlite(order)
    assert kept.results == {"node": "ok"}
    assert condition.attempts == [1, 2]
    assert handler.attempts == [2]
    assert kept.rows() == [("step", "retrying", 1), ("step", "completed", 2)]


@pytest.mark.parametrize("kind", ["step", "parallel", "route", "loop"])
async def test_a_condition_out_of_attempts_fails_the_node(sqlite: OnSqlite, kind: str) -> None:
    calls: list[int] = []

    def down(ctx: Context) -> bool:
        calls.append(ctx.attempt)
        raise LineDownError("the condition is down")

    options: dict[str, Any] = {"when": down, "max_retries": 1, "retry_backoff": 0.01}
    nodes: dict[str, Callable[[], Workflow]] = {
        "step": lambda: durable("order").step("node", nothing, **options),
        "parallel": lambda: durable("order").parallel("node", {"a": nothing}, **options),
        "route": lambda: durable("order").route("node", lambda ctx: "b", {"b": nothing}, **options),
        "loop": lambda: durable("order").loop("node", lambda input, ctx: None, max_iterations=1, **options),
    }
    kept = await sqlite(nodes[kind]())
    assert (kept.failure.node, kept.failure.message) == ("node", "the condition is down")
    assert calls == [1, 2]
    journaled = KINDS.get(kind, kind)
    assert kept.rows("node") == kept.rows() == [(journaled, "retrying", 1), (journaled, "failed", 2)]


@pytest.mark.parametrize("kind", ["sleep", "signal", "child"])
async def test_conditions_of_nodes_without_a_policy_have_the_default_one(sqlite: OnSqlite, kind: str) -> None:
    calls: list[int] = []

    def down(ctx: Context) -> bool:
        calls.append(ctx.attempt)
        raise Retry("ask again", after=0.01)

    kept = await sqlite(ANY[kind](durable("order"), down), children=[invoicing()])
    assert (kept.failure.node, kept.failure.type) == ("node", "Retry")
    assert calls == [1, 2, 3, 4]
    assert kept.rows() == [*((kind, "retrying", attempt) for attempt in (1, 2, 3)), (kind, "failed", 4)]
