"""How a worker lets go of a run: what is stored with it, what is told of it, and what it takes to drop it unasked."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from stepwell import Context, Durable, RunFailedError, durable
from tests.api.running_fixtures import file_url, until_status
from tests.faulty import faulty_app, parks
from tests.gates import Gate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepwell import Workflow
    from stepwell.store.records import Advance
    from tests.faulty import FaultyStore

LEASE_SECONDS = 1.0
TIMED_OUT = "timed out"


def execute(folder: Path, statement: str) -> None:
    """Does behind the engine's back what an operator, or a fault, may do."""
    with contextlib.closing(sqlite3.connect(folder / "store.db", timeout=PATIENCE)) as connection, connection:
        connection.execute(statement)


def keep_no_rows(folder: Path) -> None:
    """From now on the store refuses every row of a journal."""
    execute(
        folder,
        "CREATE TRIGGER no_rows BEFORE INSERT ON stepwell_journal BEGIN SELECT RAISE(ABORT, 'no such row'); END",
    )


def keep_rows_again(folder: Path) -> None:
    execute(folder, "DROP TRIGGER no_rows")


def asking() -> Workflow:
    """Waits for a signal for a moment, and gives back what it got."""
    found: Workflow = (
        durable("asking")
        .wait_for_signal("wait", "go", timeout=0.05, default=TIMED_OUT)
        .step("last", lambda ctx: ctx.results["wait"])
    )
    return found


def gives_back(worker_id: str, advances: Sequence[Advance]) -> bool:
    """A batch in which a run is let go of for later, as it was stored."""
    return any(one.release and one.due_at is not None and one.due_at != one.wake_at for one in advances)


def ends(worker_id: str, advances: Sequence[Advance]) -> bool:
    return any(one.ended for one in advances)


def records(worker_id: str, advances: Sequence[Advance]) -> bool:
    return any(one.rows for one in advances)


async def parked(app: Durable, faulty: FaultyStore, folder: Path) -> str:
    """A run that was parked for its signal, in a store that keeps no rows any more."""
    park = faulty.stop_after("commit", parks)
    run_id = (await app.start("asking")).run_id
    await park.reached()
    keep_no_rows(folder)
    assert await park.released() == ["ok"]
    return run_id


async def test_i4_a_wait_whose_timeout_cannot_be_stored_is_given_back_with_its_deadline(tmp_path: Path) -> None:
    app, faulty = faulty_app(file_url(tmp_path), [asking()])
    async with app, app.worker():
        giving_back = faulty.stop_after("commit", gives_back)
        run_id = await parked(app, faulty, tmp_path)
        await giving_back.reached()
        keep_rows_again(tmp_path)
        assert await giving_back.released() == ["ok"]
        snapshot = await until_status(app, run_id, "suspended")
        assert snapshot.awaiting_signal == "go"
        deadline = faulty.claims_of(run_id)[-1].wake_at
        assert deadline is not None
        execute(tmp_path, "UPDATE stepwell_runs SET due_at = 0")
        await eventually(lambda: len(faulty.claims_of(run_id)) == 3)
        assert faulty.claims_of(run_id)[-1].wake_at == deadline
        assert (await app.result(run_id, timeout=PATIENCE))["last"] == TIMED_OUT


async def test_i6_a_signal_that_comes_while_its_wait_is_given_back_ends_that_wait(tmp_path: Path) -> None:
    """Else the run would sleep beside its message, and a second resume would be accepted."""
    app, faulty = faulty_app(file_url(tmp_path), [asking()])
    async with app, app.worker():
        giving_back = faulty.stop_before("commit", gives_back)
        run_id = await parked(app, faulty, tmp_path)
        await giving_back.reached()
        assert (await app.resume(run_id, "go", 7)).accepted
        keep_rows_again(tmp_path)
        assert await giving_back.released() == ["message"]
        await eventually(lambda: faulty.verdicts_on(run_id)[-2:] == ["message", "ok"])
        assert (await app.status(run_id)).awaiting_signal is None
        assert not (await app.resume(run_id, "go", 8)).accepted
        execute(tmp_path, "UPDATE stepwell_runs SET due_at = 0")
        assert await app.result(run_id, timeout=PATIENCE) == {"wait": 7, "last": 7}


async def test_i4_a_run_whose_end_is_being_answered_is_not_dropped_and_its_end_is_told(tmp_path: Path) -> None:
    """The store says that it is leased to nobody; only the answer knows that it has ended."""
    app, faulty = faulty_app(file_url(tmp_path), [durable("flow").step("work", lambda ctx: 1)])
    told: list[str] = []
    async with app, app.worker() as worker:
        app._events.on_ended.append(lambda run_id, results: told.append(run_id))
        ending = faulty.stop_after("commit", ends)
        run_id = (await app.start("flow")).run_id
        await ending.reached()
        await worker._worker_session.look_for_lost()
        assert await ending.released() == ["ok"]
        await eventually(lambda: worker._worker_session.held == 0)
        assert told == [run_id]


async def test_i4_a_run_that_was_claimed_while_a_beat_was_on_its_way_is_not_dropped(tmp_path: Path) -> None:
    """What the beat read does not know of it yet."""
    gate = Gate()
    app, faulty = faulty_app(file_url(tmp_path), [durable("flow").step("work", gate.handler)], lease=LEASE_SECONDS)
    async with app, app.worker() as worker:
        began = app._runtime.monotonic()
        leased = (await app._store.reader.leased(worker.worker_id)).tokens
        assert leased == {}
        run_id = (await app.start("flow")).run_id
        await gate.entered()
        worker._worker_session._reconcile(dict(leased), began)
        gate.let()
        await app.result(run_id, timeout=PATIENCE)
    assert gate.attempts == [1]
    assert len(faulty.claims_of(run_id)) == 1


async def test_i8_results_of_a_child_that_are_too_large_together_fail_the_node_that_waits_for_them(
    tmp_path: Path,
) -> None:
    """Each of them is within the limit; together they would be one value of their parent's journal above it."""
    child = durable("child").step("one", lambda ctx: "x" * 600).step("two", lambda ctx: "y" * 600)
    parent = durable("parent").child_workflow("family", child).step("last", lambda ctx: None)
    async with Durable(file_url(tmp_path), [parent, child], max_value_bytes=1000) as app, app.worker():
        run_id = (await app.start("parent")).run_id
        with pytest.raises(RunFailedError) as caught:
            await app.result(run_id, timeout=PATIENCE)
        (offspring,) = (await app.status(run_id)).children or ()
        (entry,) = await app.journal(run_id)
    assert (caught.value.error.node, caught.value.error.type) == ("family", "PayloadError")
    assert caught.value.error.message.startswith("results.family: 1,")
    assert (entry.node, entry.status) == ("family", "failed")
    assert offspring.status == "completed"


def waiting_at_once(begun: list[str]) -> Workflow:
    """A wait that times out at once rests on the absence of a message, and on the step before it being stored."""
    return durable("flow").step("work", lambda ctx: 1).wait_for_signal("wait", "go", timeout=0, default=TIMED_OUT)


def branching(begun: list[str]) -> Workflow:
    """The entries of a parallel begin once the step before them is stored."""

    def begin(ctx: Context) -> None:
        begun.append(ctx.step)

    return durable("flow").step("work", lambda ctx: 1).parallel("both", {"air": begin, "sea": begin})


@pytest.mark.parametrize("made", [waiting_at_once, branching])
async def test_i9_a_run_that_is_canceled_elsewhere_before_its_last_step_is_stored_decides_nothing_more(
    tmp_path: Path, made: Callable[[list[str]], Workflow]
) -> None:
    begun: list[str] = []
    app, faulty = faulty_app(file_url(tmp_path), [made(begun)])
    async with app, Durable(file_url(tmp_path)) as other, app.worker() as worker:
        recording = faulty.stop_before("commit", records)
        run_id = (await app.start("flow")).run_id
        await recording.reached()
        await other.cancel(run_id)
        assert await recording.released() == ["lost"]
        await eventually(lambda: worker._worker_session.held == 0)
        assert faulty.verdicts_on(run_id) == ["lost"]
        assert await app.journal(run_id) == []
    assert begun == []
