"""What must hold between a run and the outside: its timers, its signals and its children.

Each test stops the store at the one moment that matters; the races of many at once stand in test_races.py and
test_races_signals.py, cancellation in test_invariants_canceled.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, RunFailedError, Suspended, durable
from tests.api.handlers import nothing
from tests.api.running_fixtures import file_url
from tests.faulty import FaultyStore, faulty_app, parks
from tests.gates import Gate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepwell import RunSnapshot, Workflow
    from stepwell.engine.fleet.worker import Worker
    from stepwell.store.records import Advance

SHORT = 0.01
GRACE = 1
"""Seconds that a worker waits for a handler which a failed test has not let go."""
RESTS = {"suspended", "completed", "failed", "canceled"}


async def fail(ctx: Context) -> None:
    raise ValueError("no")


def two_waits() -> Workflow:
    """Waits for the same signal twice."""
    found: Workflow = durable("waits").wait_for_signal("one", "go").wait_for_signal("two", "go")
    return found


def parent_of(gate: Gate, *, mapped: bool = False) -> list[Workflow]:
    """A parent, and its child whose step waits at the gate."""
    given = (lambda ctx: "mapped") if mapped else None
    parent = durable("parent").child_workflow("child", "leaf", map_input=given).step("last", nothing)
    return [parent, durable("leaf").step("work", gate.handler)]


def changes(run_id: str) -> Callable[[str, Sequence[Advance]], bool]:
    """Matches the next batch with an advance of the run."""
    return lambda worker_id, advances: any(one.run_id == run_id for one in advances)


def records_one(worker_id: str, advances: Sequence[Advance]) -> bool:
    """Matches the next batch with an entry of the node "one"."""
    return any(row.node == "one" for one in advances for row in one.rows)


async def at_rest(app: Durable, run_id: str, node: str | None = None) -> RunSnapshot:
    """The run once it waits for something from outside, at the node if one is named, or has ended."""

    async def look() -> RunSnapshot | None:
        snapshot = await app.status(run_id)
        if snapshot.status == "suspended" and node not in {None, snapshot.current_node}:
            return None
        return snapshot if snapshot.status in RESTS else None

    return await eventually(look)


async def only_child(app: Durable, run_id: str) -> str:
    """The id of the run's one child."""
    (child,) = (await app.status(run_id)).children or ()
    return child.run_id


def make_due(folder: Path, run_id: str) -> None:
    """Makes a run due that waits for something, as a burial at the wrong moment does."""
    connection = sqlite3.connect(folder / "store.db", timeout=PATIENCE)
    with connection:
        connection.execute("UPDATE stepwell_runs SET due_at = 0 WHERE id = ? AND worker IS NULL", (run_id,))
    connection.close()


# I4: every run ends, or is due, or waits for something that can still come.


async def fails_once(ctx: Context) -> None:
    if ctx.attempt == 1:
        raise ValueError("not yet")


@pytest.mark.parametrize(
    "flow",
    [
        durable("sleep").sleep("wait", SHORT),
        durable("timeout").wait_for_signal("wait", "go", timeout=SHORT, default=None),
        durable("retry").step("wait", fails_once, max_retries=1, retry_backoff=SHORT),
        durable("pause").loop("wait", lambda given, ctx: None, max_iterations=2, pause=SHORT),
    ],
    ids=lambda flow: str(flow.name),
)
async def test_i4_a_run_that_waits_for_a_time_goes_on_when_it_has_come(flow: Workflow) -> None:
    flow.step("last", nothing)
    async with Durable("sqlite://", [flow]) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"wait": None, "last": None}


async def test_i4_a_parent_whose_child_fails_hears_of_it_and_fails_at_that_node() -> None:
    flows = [durable("parent").child_workflow("child", "leaf"), durable("leaf").step("work", fail, max_retries=0)]
    async with Durable("sqlite://", flows) as app, app.worker():
        run_id = (await app.start("parent")).run_id
        with pytest.raises(RunFailedError) as caught:
            await app.result(run_id, timeout=PATIENCE)
    assert (caught.value.error.node, caught.value.error.type) == ("child", "ChildFailed")


async def test_i4_a_parent_whose_child_is_canceled_hears_of_it_and_fails_at_that_node() -> None:
    gate = Gate("work")
    async with Durable("sqlite://", parent_of(gate)) as app, app.worker(grace=GRACE):
        run_id = (await app.start("parent")).run_id
        await gate.entered()
        await app.cancel(await only_child(app, run_id))
        with pytest.raises(RunFailedError) as caught:
            await app.result(run_id, timeout=PATIENCE)
    assert (caught.value.error.node, caught.value.error.type) == ("child", "ChildCanceled")


async def test_i4_a_run_that_its_worker_took_up_after_a_signal_is_due_when_that_worker_dies(tmp_path: Path) -> None:
    """To take it up was a commit, so nothing of what made the run due is left but its worker."""
    gate = Gate("work", holds=1)
    flow = durable("flow").wait_for_signal("wait", "go").step("work", gate.handler)
    app, other = Durable(file_url(tmp_path), [flow]), Durable(file_url(tmp_path), [flow])
    async with app, other, app.worker(grace=GRACE) as worker:
        run_id = (await app.start("flow")).run_id
        await at_rest(app, run_id)
        assert (await app.resume(run_id, "go", 7)).accepted
        await gate.entered()
        assert await other._store.expire(worker.worker_id, None) == 1
        async with other.worker():
            assert await other.result(run_id, timeout=PATIENCE) == {"wait": 7, "work": "work"}
        gate.let()
    assert gate.calls == {run_id: 2}


async def test_i4_a_run_that_a_stopping_worker_gives_back_between_two_steps_is_due_for_the_next() -> None:
    gate, leave = Gate("work"), asyncio.Event()
    flow = durable("flow").step("work", gate.handler).step("last", nothing)
    async with Durable("sqlite://", [flow]) as app:
        workers: list[Worker] = []

        async def work_until_told_to_leave() -> None:
            async with app.worker() as worker:
                workers.append(worker)
                await leave.wait()

        leaving = asyncio.ensure_future(work_until_told_to_leave())
        run_id = (await app.start("flow")).run_id
        await gate.entered()
        leave.set()
        await eventually(lambda: workers[0]._worker_session.is_stopping)
        gate.let()
        await leaving
        assert [entry.node for entry in await app.journal(run_id)] == ["work"]
        async with app.worker():
            assert await app.result(run_id, timeout=PATIENCE) == {"work": "work", "last": None}
    assert gate.calls == {run_id: 1}


# I6: a signal accepted is consumed at most once, and exactly once by a run that reaches its wait.


async def test_i6_a_signal_that_was_used_is_not_used_by_the_next_wait_for_its_name(tmp_path: Path) -> None:
    """Its run is claimed again, and reads its mailbox again, for the second signal."""
    async with Durable(file_url(tmp_path), [two_waits()]) as app, app.worker():
        run_id = (await app.start("waits")).run_id
        assert (await app.signal(run_id, "go", "a")).accepted
        assert (await at_rest(app, run_id, "two")).results == {"one": "a"}
        assert (await app.signal(run_id, "go", "b")).accepted
        assert await app.result(run_id, timeout=PATIENCE) == {"one": "a", "two": "b"}


async def test_i6_a_signal_whose_use_is_not_committed_yet_is_not_used_again_when_another_comes() -> None:
    app, faulty = faulty_app("sqlite://", [two_waits()])
    async with app:
        run_id = (await app.start("waits")).run_id
        assert (await app.signal(run_id, "go", "a")).accepted
        stop = faulty.stop_before("commit", parks)
        async with app.worker():
            await stop.reached()
            assert (await app.signal(run_id, "go", "b")).accepted
            assert await stop.released() == ["message"]
            assert await app.result(run_id, timeout=PATIENCE) == {"one": "a", "two": "b"}


async def test_i6_a_signal_stays_with_its_suspended_step_through_failed_attempts() -> None:
    heard: list[Any] = []

    async def talk(ctx: Context) -> Any:
        if ctx.resume_data is None:
            return Suspended(None)
        heard.append(ctx.resume_data)
        if len(heard) < 3:
            raise ValueError("not yet")
        return ctx.resume_data

    flow = durable("talks").step("talk", talk, max_retries=2, retry_backoff=SHORT)
    async with Durable("sqlite://", [flow]) as app, app.worker():
        run_id = (await app.start("talks")).run_id
        await at_rest(app, run_id)
        assert (await app.resume(run_id, "talk", "a")).accepted
        snapshot = await at_rest(app, run_id)
        assert (snapshot.status, snapshot.results) == ("completed", {"talk": "a"})
    assert heard == ["a", "a", "a"]


async def test_i6_a_resume_that_a_dead_worker_had_in_hand_is_used_by_the_next(tmp_path: Path) -> None:
    """The message is taken in the commit of the outcome that used it, and that commit was never made."""
    app, faulty = faulty_app(file_url(tmp_path), [two_waits()])
    other = Durable(file_url(tmp_path), [two_waits()])
    async with app, other, app.worker() as worker:
        run_id = (await app.start("waits")).run_id
        await at_rest(app, run_id)
        stop = faulty.stop_before("commit", records_one)
        assert (await app.resume(run_id, "go", "a")).accepted
        await stop.reached()
        assert await other._store.expire(worker.worker_id, None) == 1
        async with other.worker():
            assert (await at_rest(other, run_id, "two")).results == {"one": "a"}
            assert await stop.released() == ["lost"]
            assert (await other.resume(run_id, "go", "b")).accepted
            assert await other.result(run_id, timeout=PATIENCE) == {"one": "a", "two": "b"}


# I8: a child is spawned once, and its end reaches its parent once.


@pytest.mark.parametrize("mapped", [False, True])
async def test_i8_a_parent_that_is_claimed_for_nothing_spawns_no_other_child(tmp_path: Path, *, mapped: bool) -> None:
    gate = Gate("work")
    app, faulty = faulty_app(file_url(tmp_path), parent_of(gate, mapped=mapped))
    async with app, app.worker(grace=GRACE):
        run_id = (await app.start("parent")).run_id
        await gate.entered()
        before = len(faulty.verdicts_on(run_id))
        make_due(tmp_path, run_id)
        await eventually(lambda: len(faulty.verdicts_on(run_id)) > before)
        child = await only_child(app, run_id)
        gate.let()
        assert await app.result(run_id, timeout=PATIENCE) == {"child": {"work": "work"}, "last": None}
        assert [entry.node for entry in await app.journal(run_id)] == ["child", "last"]
    assert gate.calls == {child: 1}
    assert _children_told(faulty, run_id) == 1


async def test_i8_the_end_of_a_child_reaches_a_parent_that_is_claimed_for_nothing_at_that_moment(
    tmp_path: Path,
) -> None:
    gate = Gate("work")
    app, faulty = faulty_app(file_url(tmp_path), parent_of(gate))
    async with app, app.worker(grace=GRACE):
        run_id = (await app.start("parent")).run_id
        await gate.entered()
        stop = faulty.stop_before("commit", changes(run_id))
        make_due(tmp_path, run_id)
        await stop.reached()
        await app.cancel(await only_child(app, run_id))
        gate.let()
        assert await stop.released() == ["message"]
        with pytest.raises(RunFailedError) as caught:
            await app.result(run_id, timeout=PATIENCE)
        assert [entry.node for entry in await app.journal(run_id)] == ["child"]
    assert caught.value.error.type == "ChildCanceled"


async def test_i8_a_spawn_and_an_end_whose_answers_are_lost_make_one_child_that_is_heard_once() -> None:
    gate = Gate("work")
    gate.let()
    app, faulty = faulty_app("sqlite://", parent_of(gate))
    faulty.lose_answer("commit", lambda worker_id, advances: any(one.spawned for one in advances))
    faulty.lose_answer("commit", lambda worker_id, advances: any(one.child_end for one in advances))
    async with app, app.worker():
        run_id = (await app.start("parent")).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"child": {"work": "work"}, "last": None}
        child = await only_child(app, run_id)
    assert not faulty.is_pending("commit")
    assert gate.calls == {child: 1}
    assert _children_told(faulty, run_id) == 1


async def test_i8_a_cancel_of_a_child_that_has_ended_tells_its_parent_nothing() -> None:
    """Its results are in the parent's mailbox, or used already."""
    gate = Gate("work")
    gate.let()
    app, faulty = faulty_app("sqlite://", parent_of(gate))
    async with app:
        stop = faulty.stop_after("commit", lambda worker_id, advances: any(one.child_end for one in advances))
        async with app.worker():
            run_id = (await app.start("parent")).run_id
            await stop.reached()
            child = await only_child(app, run_id)
            await app.cancel(child)
            stop.release()
            assert await app.result(run_id, timeout=PATIENCE) == {"child": {"work": "work"}, "last": None}
        assert (await app.status(child)).status == "completed"
    assert max(lease.messages for lease in faulty.claims_of(run_id)) == 1


def _children_told(faulty: FaultyStore, run_id: str) -> int:
    """How many messages the run's outcomes used."""
    commits = [(advances, verdicts) for (_, advances), verdicts in faulty.answers_of("commit")]
    pairs = [pair for advances, verdicts in commits for pair in zip(advances, verdicts, strict=True)]
    return sum(len(one.consumed) for one, verdict in pairs if one.run_id == run_id and verdict == "ok")
