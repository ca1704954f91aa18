"""`status`: a run's live state at every stage, with its child runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stepwell import Branch, Context, Durable, RunNotFoundError, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import (
    decline,
    echo,
    file_url,
    one,
    two,
    undo,
    until_asleep,
    until_status,
)
from tests.gates import Gate
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

url = running_fixtures.url


@pytest.mark.parametrize(
    "run_id", ["0197f0a0-0000-7000-8000-000000000000", "nonsense", "", "'; --", "\u0000", "\ud800"], ids=ascii
)
async def test_an_unknown_run_is_named(url: str, run_id: str) -> None:
    async with Durable(url) as app:
        with pytest.raises(RunNotFoundError):
            await app.status(run_id)


async def test_a_run_nobody_has_claimed_is_pending(url: str) -> None:
    async with Durable(url, [durable("flow").step("first", one).step("second", two)]) as app:
        started = await app.start("flow", {"a": 1}, key="k")
        snapshot = await app.status(started.run_id)
    assert (snapshot.run_id, snapshot.key, snapshot.workflow_name) == (started.run_id, "k", "flow")
    assert (snapshot.status, snapshot.current_step, snapshot.current_node, snapshot.total_steps) == (
        "pending",
        0,
        "first",
        2,
    )
    assert (snapshot.input, snapshot.results, snapshot.error) == ({"a": 1}, {}, None)
    assert (snapshot.awaiting_signal, snapshot.wake_at, snapshot.parent_run_id) == (None, None, None)
    assert list(snapshot.children or ()) == []
    assert list(snapshot.compensated) == []
    assert snapshot.finished_at is None


async def test_a_run_at_work_is_running_and_shows_what_it_has_so_far(url: str) -> None:
    gate = Gate("done")
    flow = durable("flow").step("first", one).step("second", gate.handler).step("third", two)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        await gate.entered()
        snapshot = await app.status(started.run_id)
        assert (snapshot.status, snapshot.current_step, snapshot.current_node) == ("running", 1, "second")
        assert snapshot.results == {"first": 1}
        assert snapshot.finished_at is None
        gate.let()
        await app.result(started.run_id, timeout=PATIENCE)


async def test_a_completed_run_is_past_its_last_node(url: str) -> None:
    async with Durable(url, [durable("flow").step("first", one).step("second", two)]) as app, app.worker():
        started = await app.start("flow")
        await app.result(started.run_id, timeout=PATIENCE)
        snapshot = await app.status(started.run_id)
    assert (snapshot.status, snapshot.current_step, snapshot.current_node) == ("completed", 2, None)
    assert snapshot.results == {"first": 1, "second": 2}
    assert snapshot.finished_at is not None
    assert snapshot.created_at <= snapshot.finished_at
    assert snapshot.created_at <= snapshot.updated_at


async def test_a_failed_run_shows_where_and_why(url: str) -> None:
    flow = durable("flow").step("first", one).step("charge", decline, max_retries=0).step("never", two)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_status(app, started.run_id, "failed")
    assert (snapshot.current_step, snapshot.current_node, snapshot.total_steps) == (1, "charge", 3)
    assert snapshot.error is not None
    assert (snapshot.error.node, snapshot.error.type, snapshot.error.message) == (
        "charge",
        "ValueError",
        "card declined",
    )
    assert snapshot.results == {"first": 1}
    assert list(snapshot.compensated) == []
    assert snapshot.finished_at is not None
    assert snapshot.wake_at is None


async def test_a_run_that_undoes_is_compensating_and_knows_the_error(url: str) -> None:
    gate = Gate()
    flow = (
        durable("flow")
        .step("first", one, compensate=gate.handler)
        .step("second", one, compensate=undo)
        .step("charge", decline, max_retries=0)
    )
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        await gate.entered()
        snapshot = await app.status(started.run_id)
        assert snapshot.status == "compensating"
        assert snapshot.error is not None
        assert snapshot.error.node == "charge"
        assert list(snapshot.compensated) == ["second"]
        assert snapshot.finished_at is None
        gate.let()
        snapshot = await until_status(app, started.run_id, "failed")
        assert list(snapshot.compensated) == ["second", "first"]


async def test_compensated_names_what_was_undone_in_order_a_loop_once_per_iteration(url: str) -> None:
    async def turn(given: object, ctx: Context) -> int | None:
        return ctx.iteration

    flow = (
        durable("flow")
        .step("plain", one, compensate=undo)
        .parallel("both", {"left": Branch(one, compensate=undo), "right": one})
        .route("way", lambda ctx: "north", {"north": Branch(one, compensate=undo)})
        .loop("turns", turn, max_iterations=2, compensate=undo)
        .step("charge", decline, max_retries=0)
    )
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_status(app, started.run_id, "failed")
    assert list(snapshot.compensated) == ["turns", "turns", "way", "left", "plain"]


async def test_a_compensator_that_failed_is_not_among_the_undone(url: str) -> None:
    flow = (
        durable("flow")
        .step("first", one, compensate=undo)
        .step("second", one, compensate=decline, max_retries=0)
        .step("charge", decline, max_retries=0)
    )
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_status(app, started.run_id, "failed")
    assert list(snapshot.compensated) == ["first"]


def assert_due_in_an_hour(wake_at: datetime | None) -> None:
    assert wake_at is not None
    assert wake_at.utcoffset() == timedelta(0)
    assert abs(wake_at - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)


async def test_a_sleeping_run_is_running_and_knows_when_it_wakes(url: str) -> None:
    async with Durable(url, [durable("flow").sleep("rest", timedelta(hours=1))]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_asleep(app, started.run_id)
    assert (snapshot.status, snapshot.current_node, snapshot.awaiting_signal) == ("running", "rest", None)
    assert_due_in_an_hour(snapshot.wake_at)


async def test_a_run_asleep_until_an_instant_wakes_at_that_instant(url: str) -> None:
    until = datetime.now(UTC) + timedelta(days=3)
    async with Durable(url, [durable("flow").sleep("rest", until)]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_asleep(app, started.run_id)
    assert snapshot.wake_at is not None
    assert abs(snapshot.wake_at - until) < timedelta(seconds=1)


async def test_a_loop_in_its_pause_is_running_and_knows_when_it_wakes(url: str) -> None:
    async def turn(given: object, ctx: Context) -> int:
        return 1

    async with Durable(url, [durable("flow").loop("turns", turn, max_iterations=2, pause=3600)]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_asleep(app, started.run_id)
    assert (snapshot.status, snapshot.current_node) == ("running", "turns")
    assert_due_in_an_hour(snapshot.wake_at)


async def test_a_run_that_will_retry_is_running_and_knows_when(url: str) -> None:
    async with Durable(url, [durable("flow").step("charge", decline, retry_backoff=3600)]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_asleep(app, started.run_id)
    assert (snapshot.status, snapshot.current_node, snapshot.error) == ("running", "charge", None)
    assert_due_in_an_hour(snapshot.wake_at)


async def test_a_wait_without_a_timeout_is_suspended_with_no_time_to_wake(url: str) -> None:
    async with Durable(url, [durable("flow").wait_for_signal("wait", "go")]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_status(app, started.run_id, "suspended")
    assert (snapshot.awaiting_signal, snapshot.wake_at, snapshot.current_node) == ("go", None, "wait")


async def test_a_wait_with_a_timeout_is_suspended_and_knows_when_it_ends(url: str) -> None:
    async with Durable(url, [durable("flow").wait_for_signal("wait", "go", timeout=3600)]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_status(app, started.run_id, "suspended")
    assert snapshot.awaiting_signal == "go"
    assert_due_in_an_hour(snapshot.wake_at)


async def test_a_parent_is_suspended_while_its_child_runs_and_both_know_each_other(url: str) -> None:
    gate = Gate("done")
    child = durable("child").step("work", gate.handler)
    parent = durable("parent").step("first", one).child_workflow("sub", child, map_input=lambda ctx: {"from": "parent"})
    async with Durable(url, [parent, child]) as app, app.worker():
        started = await app.start("parent")
        await gate.entered()
        above = await until_status(app, started.run_id, "suspended")
        assert (above.current_node, above.awaiting_signal, above.wake_at) == ("sub", None, None)
        assert above.children is not None
        (row,) = above.children
        assert (row.workflow_name, row.status, row.parent_run_id) == ("child", "running", started.run_id)
        assert (row.input, row.results, row.children) == (None, None, None)
        below = await app.status(row.run_id)
        assert (below.parent_run_id, below.input) == (started.run_id, {"from": "parent"})
        gate.let()
        assert (await app.result(started.run_id, timeout=PATIENCE))["sub"] == {"work": "done"}
        above = await app.status(started.run_id)
        assert [(each.run_id, each.status) for each in above.children or ()] == [(row.run_id, "completed")]


async def test_children_come_oldest_first_and_one_level_deep(url: str) -> None:
    leaf = durable("leaf").step("value", one)
    middle = durable("middle").child_workflow("leaf", leaf)
    root = durable("root").child_workflow("a", middle).child_workflow("b", leaf).child_workflow("c", "middle")
    async with Durable(url, [root, middle, leaf]) as app, app.worker():
        started = await app.start("root")
        await app.result(started.run_id, timeout=PATIENCE)
        snapshot = await app.status(started.run_id)
    assert snapshot.children is not None
    assert [each.workflow_name for each in snapshot.children] == ["middle", "leaf", "middle"]
    assert [each.created_at for each in snapshot.children] == sorted(each.created_at for each in snapshot.children)


async def test_status_needs_no_workflow_code(tmp_path: Path) -> None:
    flow = durable("flow").step("first", echo).wait_for_signal("wait", "go").step("last", one)
    async with Durable(file_url(tmp_path), [flow]) as app, app.worker():
        started = await app.start("flow", {"a": 1})
        with_code = await until_status(app, started.run_id, "suspended")
        async with Durable(file_url(tmp_path)) as stranger:
            without = await stranger.status(started.run_id)
    assert without == with_code
    assert (without.current_step, without.current_node, without.total_steps) == (1, "wait", 3)


async def test_total_steps_are_those_of_the_definition_the_run_was_started_with(tmp_path: Path) -> None:
    async with Durable(file_url(tmp_path), [durable("flow").step("first", one)]) as app:
        started = await app.start("flow")
    async with Durable(file_url(tmp_path), [durable("flow").step("new", one).step("other", one)]) as app:
        snapshot = await app.status(started.run_id)
    assert (snapshot.current_node, snapshot.total_steps) == ("first", 1)


async def test_what_a_reader_does_to_a_snapshots_values_nobody_else_sees(url: str) -> None:
    async with Durable(url, [durable("flow").step("say", echo)]) as app, app.worker():
        started = await app.start("flow", {"items": [1]})
        await app.result(started.run_id, timeout=PATIENCE)
        snapshot = await app.status(started.run_id)
        snapshot.input["items"].append(2)
        assert snapshot.results is not None
        snapshot.results["say"]["items"].append(3)
        fresh = await app.status(started.run_id)
    assert fresh.input == {"items": [1]}
    assert fresh.results == {"say": {"items": [1]}}
