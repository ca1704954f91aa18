"""Reads: one moment of the store, pages newest first, and nothing of a run that is not stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell.errors import Failure
from stepwell.store.records import Filter, Leased
from tests.conformance.keeper import EVERY, OUTLINE, Keeper, advance, awaiting, ended, grown, parked, row, step
from tests.moving_clock import NOON, SECOND, MovingClock
from tests.waiting import eventually

if TYPE_CHECKING:
    from stepwell.store.protocol import Store
    from stepwell.store.reading import Reader
    from stepwell.store.records import Lease

EVERYTHING = Filter(None, None, None, None, EVERY, None)
BROKEN = Failure("step1", "ValueError", "no", "traceback")


async def six(keeper: Keeper) -> list[Lease]:
    """Six runs of two workflows, oldest first; the first two have ended."""
    leases = [
        await keeper.leased(workflow=workflow, key=f"k{at}") for at, workflow in enumerate(["order", "refund"] * 3)
    ]
    await keeper.commit(
        ended(leases[0]), ended(leases[1], row(leases[1], status="failed", error=BROKEN), status="failed")
    )
    return leases


async def test_of_a_run_that_is_not_stored_there_is_nothing_to_read(store: Store) -> None:
    assert await store.reader.snapshot("no such run") is None
    assert await store.reader.journal("no such run") is None
    assert await store.reader.ended(["no such run"]) == {"no such run": None}


async def test_a_snapshot_shows_the_run_with_its_journal_and_children(keeper: Keeper) -> None:
    lease = await keeper.leased(value=b'{"id":1}', key="k")
    rows = [row(lease), row(lease, 2, status="failed", value=None, error=BROKEN)]
    child = await keeper.new(workflow="invoice", parent_id=lease.run_id, parent_node="child")
    keeper.clock.go_on(2)
    await keeper.commit(parked(lease, *rows, spawned=(child,)))
    snapshot = await keeper.snapshot(lease.run_id)
    run = snapshot.run
    assert (run.run_id, run.key, run.workflow, run.value) == (lease.run_id, "k", "order", b'{"id":1}')
    assert (run.status, run.position, run.parent_id, run.outline) == ("suspended", 2, None, OUTLINE)
    assert (run.created_at, run.updated_at, run.finished_at) == (NOON, NOON + 2 * SECOND, None)
    assert snapshot.rows == rows
    (seen,) = snapshot.children.runs
    assert (seen.run_id, seen.workflow, seen.parent_id, seen.value) == (child.run_id, "invoice", lease.run_id, None)
    assert (await keeper.stored(child.run_id)).parent_id == lease.run_id


async def test_a_journal_is_empty_before_the_first_commit_and_then_in_order(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    assert await store.reader.journal(lease.run_id) == []
    rows = [row(lease, place, node=f"n{9 - place}", finished_at=9 - place) for place in range(1, 9)]
    await keeper.commit(advance(lease, *rows[:5]))
    await keeper.commit(advance(grown(lease, 5), *rows[5:], lean=True))
    assert await store.reader.journal(lease.run_id) == rows


async def test_a_page_is_newest_first_and_goes_on_after_the_last_one(keeper: Keeper) -> None:
    newest_first = [lease.run_id for lease in reversed(await six(keeper))]
    assert await keeper.listed() == newest_first
    assert await keeper.listed(limit=4) == newest_first[:4]
    assert await keeper.listed(limit=4, before=newest_first[3]) == newest_first[4:]
    assert await keeper.listed(before=newest_first[-1]) == []


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ({"status": "running"}, [5, 4, 3, 2]),
        ({"status": "completed"}, [0]),
        ({"status": "failed"}, [1]),
        ({"status": "canceled"}, []),
        ({"workflow": "refund"}, [5, 3, 1]),
        ({"workflow": "refund", "status": "running"}, [5, 3]),
        ({"workflow": "refund", "status": "running", "limit": 1}, [5]),
        ({"key": "k2"}, [2]),
        ({"key": "k2", "workflow": "refund"}, []),
        ({"parent_id": "no such run"}, []),
    ],
)
async def test_a_page_has_the_runs_that_were_wanted(
    keeper: Keeper, wanted: dict[str, object], places: list[int]
) -> None:
    leases = await six(keeper)
    assert await keeper.listed(**wanted) == [leases[place].run_id for place in places]


async def test_a_page_tells_why_runs_failed_and_what_was_undone_and_no_inputs(keeper: Keeper, store: Store) -> None:
    lease, fine = await keeper.leased(), await keeper.leased()
    failed = row(lease, 2, status="failed", value=None, error=BROKEN)
    undone = row(lease, 3, node="step1", phase="undo", kind="compensate")
    tried = row(lease, 1, n=1, status="retrying", value=None, error=BROKEN)
    await keeper.commit(advance(lease, tried, failed, undone, status="compensating"), step(fine))
    await keeper.commit(ended(grown(lease, 3), status="failed"))
    found = await store.reader.page(EVERYTHING)
    assert {run.value for run in found.runs} == {None}
    (rows,) = found.rows.values()
    assert [(each.node, each.phase, each.status, each.error) for each in rows] == [
        (failed.node, "do", "failed", BROKEN),
        ("step1", "undo", "completed", None),
    ]
    assert list(found.rows) == [lease.run_id]


async def test_what_a_run_waits_for_is_shown_while_nobody_drives_it(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.commit(awaiting(lease, "go", due_at=NOON + SECOND))
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.awaiting, stored.wake_at) == ("suspended", "go", NOON + SECOND)
    keeper.clock.go_on(1)
    await keeper.claim("bob")
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.awaiting, stored.wake_at) == ("suspended", "go", None)


async def test_only_those_that_have_ended_are_told_with_how(keeper: Keeper, store: Store) -> None:
    leases = await six(keeper)
    await store.cancel(leases[2].run_id)
    asked = [lease.run_id for lease in leases] + ["no such run"]
    assert await store.reader.ended(asked) == {
        leases[0].run_id: "completed",
        leases[1].run_id: "failed",
        leases[2].run_id: "canceled",
        "no such run": None,
    }
    assert await store.reader.ended([]) == {}


async def test_what_is_leased_to_a_worker_is_told_with_its_tokens(keeper: Keeper, store: Store) -> None:
    assert await store.reader.leased("nobody") == Leased({}, [])
    one, other, over = [await keeper.leased() for _ in range(3)]
    await keeper.leased("bob")
    await keeper.commit(ended(over))
    await store.cancel(other.run_id)
    assert await store.reader.leased("ann") == Leased({one.run_id: one.token}, [])
    await keeper.crash("ann")
    assert await store.reader.leased("ann") == Leased({}, [])


async def says(reader: Reader, changed: bool) -> None:  # noqa: FBT001  it is what it says
    """Waits for that answer: in doubt, "changed" is always right."""

    async def answer() -> bool:
        return (await reader.changed() is not None) == changed

    await eventually(answer)


async def test_a_store_that_nobody_else_writes_says_so(store: Store) -> None:
    await says(store.reader, changed=False)


async def test_what_another_process_writes_is_noticed(shared_keeper: Keeper) -> None:
    reader = shared_keeper.store.reader
    other = shared_keeper.beside(MovingClock("another-process"))
    await other.open()
    try:
        await says(reader, changed=False)
        await other.start([await shared_keeper.new()])
        await says(reader, changed=True)
        await says(reader, changed=False)
    finally:
        await other.close()


async def test_a_result_is_the_run_with_its_journal_and_nothing_else(keeper: Keeper) -> None:
    lease = await keeper.leased(value=b'{"large":"input"}')
    await keeper.start(parent_id=lease.run_id, parent_node="child")
    failure = row(lease, 2, status="failed", value=None, error=Failure("step2", "ValueError", "no"))
    await keeper.commit(ended(lease, row(lease), failure, status="failed"))
    stored = await keeper.store.reader.result(lease.run_id)
    whole = await keeper.snapshot(lease.run_id)
    assert stored is not None
    assert (stored.run, stored.rows) == (whole.run, whole.rows)
    assert (stored.children.runs, len(whole.children.runs)) == ([], 1)


async def test_a_result_of_a_run_without_rows_or_of_none_is_told(keeper: Keeper) -> None:
    run_id = await keeper.start()
    stored = await keeper.store.reader.result(run_id)
    assert stored is not None
    assert (stored.run.value, stored.rows) == (b"{}", [])
    assert await keeper.store.reader.result(keeper.clock.new_id()) is None
    assert await keeper.store.reader.result("nonsense") is None
