"""The child_workflow node: a run of another workflow, durable by itself, linked to its parent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepwell import (
    Abort,
    Context,
    DefinitionError,
    Durable,
    Retry,
    RunCanceledError,
    RunSnapshot,
    Workflow,
    WorkflowNotRegisteredError,
    durable,
)
from tests.api.handlers import Spy, fail, nothing
from tests.api.runs import ended, suspended
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite


def invoicing() -> Workflow:
    return durable("invoicing").step("write", lambda ctx: {"for": ctx.input}).step("send", lambda ctx: "sent")


async def child_of(app: Durable, run_id: str) -> RunSnapshot:
    """The only child of a run, once there is one."""

    async def children() -> Any:
        return (await app.status(run_id)).children

    (child,) = await eventually(children)
    assert isinstance(child, RunSnapshot)
    return child


@pytest.mark.parametrize("by_name", [True, False])
async def test_the_result_is_the_childs_results(sqlite: OnSqlite, by_name: bool) -> None:  # noqa: FBT001 - a parameter of the test
    child, close = invoicing(), Spy()
    order = durable("order").child_workflow("invoice", "invoicing" if by_name else child).step("close", close.handle)
    kept = await sqlite(order, {"id": 7}, children=[child])
    assert kept.results == {"invoice": {"write": {"for": {"id": 7}}, "send": "sent"}, "close": None}
    assert close.calls[0].results == {"invoice": kept.results["invoice"]}


async def test_map_input_gives_the_childs_input(sqlite: OnSqlite) -> None:
    mapper = Spy({"order": 42})
    order = durable("order").step("find", lambda ctx: 1).child_workflow("invoice", "invoicing", map_input=mapper.decide)
    kept = await sqlite(order, {"id": 7}, children=[invoicing()])
    assert kept.results["invoice"]["write"] == {"for": {"order": 42}}
    (call,) = mapper.calls
    assert (call.step, call.attempt, call.input, call.results) == ("invoice", 1, {"id": 7}, {"find": 1})


async def test_map_input_may_be_async(sqlite: OnSqlite) -> None:
    async def mapper(ctx: Context) -> int:
        return 3

    order = durable("order").child_workflow("invoice", "invoicing", map_input=mapper)
    kept = await sqlite(order, children=[invoicing()])
    assert kept.results["invoice"]["write"] == {"for": 3}


async def test_child_and_parent_are_linked(sqlite: OnSqlite) -> None:
    order, child = durable("order").child_workflow("invoice", "invoicing"), invoicing()
    async with sqlite.open(order, child) as app, app.worker():
        run_id = (await app.start(order, 1)).run_id
        kept = await ended(app, run_id)
        linked = await child_of(app, run_id)
        assert (linked.workflow_name, linked.parent_run_id, linked.status) == ("invoicing", run_id, "completed")
        assert (linked.input, linked.results, linked.children) == (None, None, None)
        whole = await app.status(linked.run_id)
        assert (whole.input, whole.results) == (1, kept.results["invoice"])
        assert kept.snapshot.parent_run_id is None
        assert [entry.node for entry in await app.journal(linked.run_id)] == ["write", "send"]


async def test_the_parent_is_suspended_while_its_child_moves(sqlite: OnSqlite) -> None:
    child = durable("invoicing").wait_for_signal("paid", "payment")
    order = durable("order").child_workflow("invoice", child)
    async with sqlite.open(order, child) as app, app.worker():
        run_id = (await app.start(order)).run_id
        linked = await child_of(app, run_id)
        await suspended(app, linked.run_id, "payment")
        parent = await suspended(app, run_id)
        assert (parent.awaiting_signal, parent.current_node, parent.wake_at) == (None, "invoice", None)
        await app.signal(linked.run_id, "payment", "in full")
        assert (await ended(app, run_id)).results == {"invoice": {"paid": "in full"}}


async def test_children_have_children(sqlite: OnSqlite) -> None:
    leaf = durable("leaf").step("add", lambda ctx: ctx.input + 1)
    middle = durable("middle").child_workflow("below", leaf, map_input=lambda ctx: ctx.input * 10)
    root = durable("root").child_workflow("below", middle)
    assert (await sqlite(root, 4, children=[middle, leaf])).results == {"below": {"below": {"add": 41}}}


async def test_several_children_are_listed_oldest_first(sqlite: OnSqlite) -> None:
    order = (
        durable("order").child_workflow("one", "invoicing").child_workflow("two", "invoicing", map_input=lambda ctx: 2)
    )
    kept = await sqlite(order, 1, children=[invoicing()])
    children = kept.snapshot.children
    assert children is not None
    assert [child.workflow_name for child in children] == ["invoicing", "invoicing"]
    assert [child.run_id for child in children] == sorted(child.run_id for child in children)
    assert (kept.results["one"]["write"], kept.results["two"]["write"]) == ({"for": 1}, {"for": 2})


# A child that does not complete.


async def test_a_child_that_failed_fails_the_node_without_retries(sqlite: OnSqlite) -> None:
    child = durable("invoicing").step("write", fail, max_retries=0)
    order = durable("order").child_workflow("invoice", child)
    kept = await sqlite(order, children=[child])
    assert (kept.failure.node, kept.failure.type) == ("invoice", "ChildFailed")
    assert kept.failure.message == "the line is down"
    assert kept.rows() == [("child", "failed", 1)]
    children = kept.snapshot.children
    assert children is not None
    assert [child.status for child in children] == ["failed"]


async def test_a_child_that_was_canceled_fails_the_node_without_retries(sqlite: OnSqlite) -> None:
    child = durable("invoicing").wait_for_signal("paid", "payment")
    order = durable("order").child_workflow("invoice", child)
    async with sqlite.open(order, child) as app, app.worker():
        run_id = (await app.start(order)).run_id
        linked = await child_of(app, run_id)
        await app.cancel(linked.run_id)
        kept = await ended(app, run_id)
        with pytest.raises(RunCanceledError):
            await app.result(linked.run_id, timeout=30)
    assert (kept.failure.node, kept.failure.type) == ("invoice", "ChildCanceled")
    assert kept.rows() == [("child", "failed", 1)]


async def test_an_error_in_map_input_is_a_failed_attempt_with_the_default_policy(sqlite: OnSqlite) -> None:
    attempts: list[int] = []

    def mapper(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise Retry("ask again", after=0.01)

    kept = await sqlite(
        durable("order").child_workflow("invoice", "invoicing", map_input=mapper), children=[invoicing()]
    )
    assert (kept.failure.node, kept.failure.type) == ("invoice", "Retry")
    assert attempts == [1, 2, 3, 4]
    assert kept.rows() == [*(("child", "retrying", attempt) for attempt in (1, 2, 3)), ("child", "failed", 4)]
    assert not kept.snapshot.children


async def test_map_input_that_gives_up_fails_the_node_at_once(sqlite: OnSqlite) -> None:
    def mapper(ctx: Context) -> None:
        raise Abort("never")

    kept = await sqlite(
        durable("order").child_workflow("invoice", "invoicing", map_input=mapper), children=[invoicing()]
    )
    assert kept.rows() == [("child", "failed", 1)]


async def test_an_unregistered_child_is_noticed_when_a_worker_begins(sqlite: OnSqlite) -> None:
    order = durable("order").child_workflow("invoice", "invoicing")
    async with sqlite.open(order) as app:
        with pytest.raises(WorkflowNotRegisteredError, match="invoicing"):
            async with app.worker():
                pass


# Compensation.


async def test_a_completed_child_is_undone_by_its_nodes_compensator_alone(sqlite: OnSqlite) -> None:
    inner, outer = Spy(), Spy()
    child = durable("invoicing").step("write", lambda ctx: "written", compensate=inner.handle)
    order = (
        durable("order").child_workflow("invoice", child, compensate=outer.handle).step("charge", fail, max_retries=0)
    )
    kept = await sqlite(order, children=[child])
    assert kept.compensated == ["invoice"]
    assert inner.calls == []
    (call,) = outer.calls
    assert (call.step, call.attempt, call.iteration) == ("invoice", 1, None)
    assert call.results == {"invoice": {"write": "written"}}


async def test_a_completed_child_without_a_compensator_stays_as_it_is(sqlite: OnSqlite) -> None:
    undo = Spy()
    child = durable("invoicing").step("write", nothing, compensate=undo.handle)
    order = durable("order").child_workflow("invoice", child).step("charge", fail, max_retries=0)
    kept = await sqlite(order, children=[child])
    assert (kept.compensated, undo.calls) == ([], [])


async def test_a_child_that_failed_is_not_undone_but_undoes_its_own(sqlite: OnSqlite) -> None:
    inner, outer = Spy(), Spy()
    child = durable("invoicing").step("write", nothing, compensate=inner.handle).step("send", fail, max_retries=0)
    order = durable("order").child_workflow("invoice", child, compensate=outer.handle)
    kept = await sqlite(order, children=[child])
    assert (kept.compensated, outer.calls) == ([], [])
    assert len(inner.calls) == 1


async def test_the_compensator_of_a_child_has_the_default_policy(sqlite: OnSqlite) -> None:
    attempts: list[int] = []

    async def undo(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise Retry("again", after=0.01)

    order = durable("order").child_workflow("invoice", "invoicing", compensate=undo).step("charge", fail, max_retries=0)
    kept = await sqlite(order, children=[invoicing()])
    assert attempts == [1, 2, 3, 4]
    assert kept.rows("invoice")[-1] == ("compensate", "failed", 4)


async def test_a_child_is_journaled_in_its_parent_once_it_has_ended(sqlite: OnSqlite) -> None:
    kept = await sqlite(durable("order").child_workflow("invoice", "invoicing"), 1, children=[invoicing()])
    (entry,) = kept.journal
    assert (entry.node, entry.kind, entry.status, entry.attempt) == ("invoice", "child", "completed", 1)
    assert entry.result == {"write": {"for": 1}, "send": "sent"}


async def test_a_child_needs_a_store() -> None:
    with pytest.raises(DefinitionError, match="invoice"):
        await durable("order").child_workflow("invoice", invoicing()).run()


@pytest.mark.parametrize(("levels", "fits"), [(199, True), (200, False)])
async def test_results_that_nest_too_deeply_for_the_parent_fail_its_node_by_name_and_are_undone(
    sqlite: OnSqlite, levels: int, *, fits: bool
) -> None:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    undo = Spy()
    child = durable("invoicing").step("write", lambda ctx: value)
    order = (
        durable("order").step("reserve", lambda ctx: 1, compensate=undo.handle).child_workflow("invoice", "invoicing")
    )
    async with sqlite.open(order, child) as app, app.worker():
        run_id = (await app.start(order)).run_id
        kept = await ended(app, run_id)
        linked = await child_of(app, run_id)
    assert linked.status == "completed"
    if fits:
        assert kept.results["invoice"] == {"write": value}
        return
    error = kept.snapshot.error
    assert error is not None
    assert (error.node, error.type) == ("invoice", "PayloadError")
    assert error.message == "results.invoice: it is nested too deeply, in more than 200 levels"
    assert (kept.snapshot.status, kept.snapshot.compensated, len(undo.calls)) == ("failed", ("reserve",), 1)


@pytest.mark.slow
async def test_a_chain_of_children_deeper_than_the_limit_is_undone_from_the_parent_on_whose_value_is_too_deep(
    sqlite: OnSqlite,
) -> None:
    undo = Spy()
    chain = [durable("run0").step("leaf", lambda ctx: 1)]
    for level in range(1, 204):
        above = durable(f"run{level}").step("mark", lambda ctx: 1, compensate=undo.handle)
        chain.append(above.child_workflow("below", chain[-1]))
    kept = await sqlite(chain[-1], children=chain[:-1])
    assert kept.snapshot.status == "failed"
    assert kept.snapshot.error is not None
    assert "nested too deeply" in kept.snapshot.error.message
    assert len(undo.calls) == 3
