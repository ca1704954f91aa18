"""Runs that change hands, are canceled or cannot be kept at the worst moment; their journals stay right.

The same races on the store's side alone stand in tests/conformance: a commit that arrives after its retry, a batch with
a parent's park and its children's ends, starts of the same keys at once, a burial beside a beat.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, Durable, RunFailedError, durable
from tests.api.handlers import nothing
from tests.api.running_fixtures import file_url
from tests.faulty import faulty_app
from tests.gates import Gate, StubbornGate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepwell import Workflow
    from stepwell.store.records import Advance

LEASE_SECONDS = 1.0
MANY = 256


async def fail(ctx: Context) -> None:
    raise ValueError("no")


def family(leaf: Any) -> list[Workflow]:
    """A run that has a child that has a child that calls the leaf."""
    return [
        durable("root").child_workflow("child", "middle").step("after", nothing),
        durable("middle").child_workflow("child", "leaf").step("after", nothing),
        durable("leaf").step("work", leaf),
    ]


async def test_i4_runs_whose_claim_was_never_answered_go_on_without_blame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, faulty = faulty_app(file_url(tmp_path), [durable("flow").step("work", nothing)], lease=LEASE_SECONDS)
    async with app:
        started = await app.start_many("flow", [1, 2, 3])
        faulty.lose_answer("claim")
        async with app.worker():
            for each in started:
                await app.result(each.run_id, timeout=PATIENCE)
    for each in started:
        lost, answered = faulty.claims_of(each.run_id)
        assert answered.token > lost.token
        assert (lost.crashes, answered.crashes) == (0, 0)
    assert "never received" in caplog.text


async def test_i3_what_a_declared_dead_worker_still_does_is_not_written_under_its_new_lease(tmp_path: Path) -> None:
    """Its batch in the socket is lost, and so is the outcome of a handler that goes on while another call began."""
    stubborn, quick = StubbornGate(), Counter[str]()

    async def count(ctx: Context) -> None:
        quick[ctx.run_id] += 1

    flows = [durable("slow").step("work", stubborn.handler), durable("quick").step("work", count)]
    app, faulty = faulty_app(file_url(tmp_path), flows, lease=LEASE_SECONDS)
    async with app, Durable(file_url(tmp_path)) as other, app.worker() as worker:
        slow = await app.start("slow")
        await stubborn.entered(1)
        sent = faulty.stop_before("commit")
        short = await app.start("quick")
        await sent.reached()
        old_id = worker.worker_id
        assert await other._store.expire(old_id, None) == 2
        await stubborn.entered(2)
        assert worker.worker_id != old_id
        assert await sent.released() == ["lost"]
        stubborn.let(1)
        await eventually(lambda: stubborn.ended == [1])
        await app.result(short.run_id, timeout=PATIENCE)
        assert await app.journal(slow.run_id) == []
        stubborn.let(2)
        assert await app.result(slow.run_id, timeout=PATIENCE) == {"work": 2}
        (entry,) = await app.journal(slow.run_id)
    assert (entry.attempt, entry.worker) == (1, worker.worker_id)
    assert quick == {short.run_id: 2}
    assert [lease.crashes for lease in faulty.claims_of(slow.run_id)] == [0, 1]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("spawner", ["root", "middle"])
async def test_i9_a_child_that_is_spawned_while_its_tree_is_canceled_never_is_or_is_canceled_too(
    tmp_path: Path, spawner: str, when: str
) -> None:
    stubborn = StubbornGate()
    app, faulty = faulty_app(file_url(tmp_path), family(stubborn.handler))
    child = {"root": "middle", "middle": "leaf"}[spawner]

    spawned = asyncio.Event()

    def spawns(worker_id: str, advances: Sequence[Advance]) -> bool:
        if any(new.workflow == child for one in advances for new in one.spawned):
            spawned.set()
        return spawned.is_set()

    async with app:
        stop = (faulty.stop_before if when == "before" else faulty.stop_after)("commit", spawns)
        # else the child may be claimed, and its handler called, before the cancel
        claim = faulty.stop_before("claim", lambda *_: spawned.is_set())
        root = await app.start("root")
        async with app.worker():
            await stop.reached()
            await app.cancel(root.run_id)
            claim.release()
            assert await stop.released() == ["lost" if when == "before" else "ok"]
        runs = await app.list()
        assert {run.status for run in runs} == {"canceled"}
        assert len(await app.list(workflow=child)) == (0 if when == "before" else 1)
        assert all([await app.journal(run.run_id) == [] for run in runs])
    assert stubborn.begun == 0


async def test_i4_a_parent_whose_child_is_canceled_fails_at_that_node_and_compensates(tmp_path: Path) -> None:
    stubborn, undone = StubbornGate(), []

    async def undo(ctx: Context) -> None:
        undone.append(ctx.step)

    root = durable("root").step("first", nothing, compensate=undo).child_workflow("child", "leaf").step("last", nothing)
    async with Durable(file_url(tmp_path), [root, durable("leaf").step("work", stubborn.handler)]) as app, app.worker():
        started = await app.start("root")
        await stubborn.entered(1)
        (child,) = (await app.status(started.run_id)).children or ()
        await app.cancel(child.run_id)
        with pytest.raises(RunFailedError) as caught:
            await app.result(started.run_id, timeout=PATIENCE)
        stubborn.let(1)
        await eventually(lambda: stubborn.ended == [1])
        assert await app.journal(child.run_id) == []
    assert (caught.value.error.node, caught.value.error.type) == ("child", "ChildCanceled")
    assert child.run_id in caught.value.error.message
    assert undone == ["first"]
    assert list(caught.value.compensated) == ["first"]


async def test_i5_a_parallel_with_a_failed_entry_begins_none_again_after_a_crash_and_undoes_in_reverse(
    tmp_path: Path,
) -> None:
    calls, undone = Counter[str](), list[str]()

    async def note(ctx: Context) -> str:
        calls[ctx.step] += 1
        return ctx.step

    async def undo(ctx: Context) -> None:
        undone.append(ctx.step)

    running = StubbornGate()
    flow = (
        durable("flow")
        .step("first", note, compensate=undo)
        .parallel(
            "all",
            {
                "fails": Branch(fail, compensate=undo),
                "runs": Branch(running.handler, compensate=undo),
                "one": Branch(note, compensate=undo),
                "two": Branch(note, compensate=undo),
            },
            max_retries=0,
        )
        .step("last", note)
    )
    async with (
        Durable(file_url(tmp_path), [flow], lease=LEASE_SECONDS) as app,
        Durable(file_url(tmp_path)) as other,
        app.worker() as worker,
    ):
        started = await app.start("flow")

        async def three_entries() -> list[str] | None:
            nodes = [entry.node for entry in await app.journal(started.run_id)]
            return nodes if len(nodes) == 4 else None

        completed = [node for node in await eventually(three_entries) or [] if node != "fails"]
        await other._store.expire(worker.worker_id, None)
        with pytest.raises(RunFailedError) as caught:
            await app.result(started.run_id, timeout=PATIENCE)
        running.let(1)
        await eventually(lambda: running.ended == [1])
    assert (caught.value.error.node, caught.value.error.type) == ("fails", "ValueError")
    assert running.begun == 1
    assert calls == {"first": 1, "one": 1, "two": 1}
    assert undone == list(reversed(completed))
    assert list(caught.value.compensated) == undone


async def test_outcomes_that_no_store_can_keep_fail_alone_in_a_full_batch(tmp_path: Path) -> None:
    def outcome(ctx: Context) -> Any:
        if ctx.input == "text":
            raise ValueError("nul \0 and surrogate \udc80")
        return "x" * 20_000_000 if ctx.input == "large" else ctx.input

    gate = Gate(outcome)
    inputs = [*range(MANY - 2), "text", "large"]
    flow = durable("flow").step("first", nothing).step("work", gate.handler, max_retries=0)
    async with Durable(file_url(tmp_path), [flow]) as app, app.worker(concurrency=MANY):
        started = [each.run_id for each in await app.start_many("flow", inputs)]
        await gate.entered(MANY)
        gate.let()
        results = [await app.result(run_id, timeout=PATIENCE) for run_id in started[:-2]]
        assert [result["work"] for result in results] == inputs[:-2]
        failures = []
        for run_id in started[-2:]:
            with pytest.raises(RunFailedError) as caught:
                await app.result(run_id, timeout=PATIENCE)
            failures.append(caught.value.error)
    text, large = failures
    assert (text.node, text.type) == ("work", "ValueError")
    assert text.message == "nul \N{SYMBOL FOR NULL} and surrogate ?"
    assert (large.node, large.type) == ("work", "PayloadError")
    assert set(gate.calls.values()) == {1}


@pytest.mark.parametrize("place", ["last", "middle"])
async def test_i1_an_outcome_that_stands_in_the_journal_already_stops_its_own_run_alone_and_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    """Somebody wrote a row by hand: the batch is halved until that run is alone, and the row is not written twice."""
    gate = Gate("by the handler")
    flow = durable("flow").step("first", nothing).step("work", gate.handler)
    if place == "middle":
        flow.step("last", nothing)
    async with (
        Durable(file_url(tmp_path), [flow], lease=LEASE_SECONDS) as app,
        app.worker(concurrency=MANY),
    ):
        *good, bad = [each.run_id for each in await app.start_many("flow", range(MANY))]
        await gate.entered(MANY)
        _insert_by_hand(tmp_path, bad)
        gate.let()
        for run_id in good:
            assert (await app.result(run_id, timeout=PATIENCE))["work"] == "by the handler"

        async def is_parked() -> bool:
            return (await app.status(bad)).damaged is not None

        await eventually(is_parked)
        entries = await app.journal(bad)
        assert [entry.result for entry in entries if entry.node == "work"] == ["by hand"]
    assert set(gate.calls.values()) == {1}
    assert "it has 2 rows where 1 were committed. It is parked" in caplog.text


def _insert_by_hand(folder: Path, run_id: str) -> None:
    """A journal row that the run itself is about to write."""
    connection = sqlite3.connect(folder / "store.db", timeout=PATIENCE)
    with connection:
        connection.execute("INSERT INTO stepwell_names (name) VALUES ('work') ON CONFLICT DO NOTHING")
        connection.execute(
            "INSERT INTO stepwell_journal (ref, seq, node, value, started_at, finished_at, worker)"
            " SELECT r.ref, 2, named.number, ?, 0, 0, 1"
            " FROM stepwell_runs AS r, stepwell_names AS named WHERE r.id = ? AND named.name = 'work'",
            (b'"by hand"', run_id),
        )
    connection.close()
