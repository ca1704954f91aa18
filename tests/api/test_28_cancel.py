"""`cancel`: a run and its descendants end at once, nothing is undone, and nothing in flight writes any more."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, ResumeResult, RunCanceledError, RunNotFoundError, RunStatus, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import (
    decline,
    file_url,
    one,
    outcomes,
    undo,
    until_asleep,
    until_status,
)
from tests.gates import Gate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

url = running_fixtures.url


async def test_an_unknown_run_is_named(url: str) -> None:
    async with Durable(url) as app:
        with pytest.raises(RunNotFoundError):
            await app.cancel("0197f0a0-0000-7000-8000-000000000000")


async def test_a_pending_run_that_is_canceled_never_begins(url: str) -> None:
    gate = Gate()
    flows = [durable("flow").step("work", gate.handler), durable("marker").step("value", one)]
    async with Durable(url, flows) as app:
        started = await app.start("flow")
        await app.cancel(started.run_id)
        assert (await app.status(started.run_id)).status == "canceled"
        async with app.worker():
            await app.result((await app.start("marker")).run_id, timeout=PATIENCE)
        snapshot = await app.status(started.run_id)
        assert await app.journal(started.run_id) == []
    assert (snapshot.status, gate.begun) == ("canceled", 0)
    assert snapshot.finished_at is not None


async def test_i9_a_handler_in_flight_is_canceled_and_writes_no_more(url: str) -> None:
    gate = Gate("written")
    flow = durable("flow").step("first", one, compensate=undo).step("work", gate.handler)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        await gate.entered()
        before = await app.journal(started.run_id)
        await app.cancel(started.run_id)
        await eventually(lambda: gate.canceled == 1)
        snapshot = await app.status(started.run_id)
        assert await app.journal(started.run_id) == before
    assert snapshot.status == "canceled"
    assert snapshot.results == {"first": 1}
    assert list(snapshot.compensated) == []
    assert (snapshot.error, snapshot.wake_at, snapshot.awaiting_signal) == (None, None, None)


async def test_i9_a_handler_that_swallows_its_cancellation_writes_no_more(url: str) -> None:
    told = asyncio.Event()
    begun = asyncio.Event()

    async def stubborn(ctx: Context) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.set()
        return "written"

    flows = [durable("flow").step("work", stubborn), durable("marker").step("value", one)]
    async with Durable(url, flows) as app:
        async with app.worker():
            started = await app.start("flow")
            await asyncio.wait_for(begun.wait(), PATIENCE)
            await app.cancel(started.run_id)
            await asyncio.wait_for(told.wait(), PATIENCE)
            await app.result((await app.start("marker")).run_id, timeout=PATIENCE)
        assert await app.journal(started.run_id) == []
        assert (await app.status(started.run_id)).status == "canceled"


async def test_i9_what_a_plain_handler_returns_after_a_cancel_is_dropped(url: str) -> None:
    begun, let, ended = threading.Event(), threading.Event(), threading.Event()

    def plain(ctx: Context) -> str:
        begun.set()
        let.wait(PATIENCE)
        ended.set()
        return "written"

    flows = [durable("flow").step("work", plain), durable("marker").step("value", one)]
    async with Durable(url, flows) as app:
        async with app.worker():
            started = await app.start("flow")
            await eventually(begun.is_set)
            await app.cancel(started.run_id)
            let.set()
            await eventually(ended.is_set)
            await app.result((await app.start("marker")).run_id, timeout=PATIENCE)
        assert await app.journal(started.run_id) == []
        assert (await app.status(started.run_id)).status == "canceled"


async def test_a_cancel_by_another_app_reaches_the_worker(tmp_path: Path) -> None:
    gate = Gate()
    flow = durable("flow").step("work", gate.handler)
    async with Durable(file_url(tmp_path), [flow]) as app, Durable(file_url(tmp_path)) as other, app.worker():
        started = await app.start("flow")
        await gate.entered()
        await other.cancel(started.run_id)
        await eventually(lambda: gate.canceled == 1)
        assert (await app.status(started.run_id)).status == "canceled"


async def test_a_sleeping_run_can_be_canceled(url: str) -> None:
    async with Durable(url, [durable("flow").sleep("rest", 3600)]) as app, app.worker():
        started = await app.start("flow")
        await until_asleep(app, started.run_id)
        await app.cancel(started.run_id)
        snapshot = await app.status(started.run_id)
    assert (snapshot.status, snapshot.wake_at) == ("canceled", None)


async def test_a_suspended_run_that_was_canceled_accepts_nothing(url: str) -> None:
    async with Durable(url, [durable("flow").wait_for_signal("wait", "go")]) as app, app.worker():
        started = await app.start("flow")
        await until_status(app, started.run_id, "suspended")
        await app.cancel(started.run_id)
        refused = ResumeResult(accepted=False, status=RunStatus.CANCELED)
        assert await app.resume(started.run_id, "go") == refused
        assert await app.signal(started.run_id, "go") == refused
        assert (await app.status(started.run_id)).awaiting_signal is None
        assert await app.journal(started.run_id) == []


async def test_a_compensating_run_is_stopped_where_it_is(url: str) -> None:
    gate = Gate()
    flow = (
        durable("flow")
        .step("first", one, compensate=undo)
        .step("second", one, compensate=gate.handler)
        .step("third", one, compensate=undo)
        .step("charge", decline, max_retries=0)
    )
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        await gate.entered()
        await app.cancel(started.run_id)
        await eventually(lambda: gate.canceled == 1)
        snapshot = await app.status(started.run_id)
        entries = await app.journal(started.run_id)
    assert snapshot.status == "canceled"
    assert list(snapshot.compensated) == ["third"]
    assert outcomes(entries, "compensate") == [("third", None, "completed")]


async def test_a_run_that_has_ended_stays_as_it_is(url: str) -> None:
    flows = [durable("good").step("value", one), durable("bad").step("value", decline, max_retries=0)]
    async with Durable(url, flows) as app, app.worker():
        for name, ending in (("good", "completed"), ("bad", "failed")):
            started = await app.start(name)
            before = await until_status(app, started.run_id, ending)
            await app.cancel(started.run_id)
            assert await app.status(started.run_id) == before


async def test_canceling_twice_changes_nothing_more(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = await app.start("flow")
        await app.cancel(started.run_id)
        before = await app.status(started.run_id)
        await app.cancel(started.run_id)
        assert await app.status(started.run_id) == before


def family(gate: Gate) -> list[Any]:
    leaf = durable("leaf").step("work", gate.handler)
    middle = durable("middle").child_workflow("below", leaf)
    quick = durable("quick").step("value", one)
    root = durable("root").child_workflow("done", quick).child_workflow("below", middle, compensate=undo)
    return [root, middle, leaf, quick]


async def test_descendants_that_have_not_ended_are_canceled_too(url: str) -> None:
    gate = Gate()
    async with Durable(url, family(gate)) as app, app.worker():
        started = await app.start("root")
        await gate.entered()
        await app.cancel(started.run_id)
        await eventually(lambda: gate.canceled == 1)
        statuses = {row.workflow_name: row.status for row in await app.list()}
    assert statuses == {"root": "canceled", "middle": "canceled", "leaf": "canceled", "quick": "completed"}


async def test_a_child_canceled_by_itself_fails_its_parents_node(url: str) -> None:
    gate = Gate()
    flows = family(gate)
    async with Durable(url, flows) as app, app.worker():
        started = await app.start("root")
        await gate.entered()
        (leaf,) = await app.list(workflow="leaf")
        await app.cancel(leaf.run_id)
        snapshot = await until_status(app, started.run_id, "failed")
        (middle,) = await app.list(workflow="middle")
        assert (await app.status(leaf.run_id)).status == "canceled"
    assert middle.status == "failed"
    assert middle.error is not None
    assert (middle.error.node, middle.error.type) == ("below", "ChildCanceled")
    assert snapshot.error is not None
    assert (snapshot.error.node, snapshot.error.type) == ("below", "ChildFailed")


async def test_the_result_of_a_canceled_run_is_its_cancellation(url: str) -> None:
    gate = Gate()
    async with Durable(url, [durable("flow").step("work", gate.handler)]) as app, app.worker():
        started = await app.start("flow")
        waiting = asyncio.create_task(app.result(started.run_id, timeout=PATIENCE))
        await gate.entered()
        await app.cancel(started.run_id)
        with pytest.raises(RunCanceledError, match=started.run_id):
            await waiting


async def test_a_canceled_runs_place_is_free_for_another(url: str) -> None:
    gate = Gate()
    flows = [durable("flow").step("work", gate.handler), durable("marker").step("value", one)]
    async with Durable(url, flows) as app, app.worker(concurrency=1):
        started = await app.start("flow")
        await gate.entered()
        marker = await app.start("marker")
        await app.cancel(started.run_id)
        assert await app.result(marker.run_id, timeout=PATIENCE) == {"value": 1}


async def test_a_key_of_a_canceled_run_still_gives_that_run(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = await app.start("flow", key="k")
        await app.cancel(started.run_id)
        again = await app.start("flow", key="k")
    assert (again.run_id, again.status) == (started.run_id, "canceled")
