"""Advances that say they are usual: their statement answers with a count, and where that is short, others judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.keeper import advance, grown, parked, row, usual

if TYPE_CHECKING:
    from tests.conformance.keeper import Keeper


async def give_names(keeper: Keeper) -> None:
    """Commits one row, after which node and worker have numbers: names without are left to the other statements."""
    assert await keeper.commit(usual(await keeper.leased())) == ["ok"]


async def test_usual_rows_are_stored_as_others_are(keeper: Keeper) -> None:
    await give_names(keeper)
    plain, other = await keeper.leased(), await keeper.leased()
    lean = advance(other, row(other, worker="ann"), lean=True)
    assert await keeper.commit(usual(plain), lean) == ["ok", "ok"]
    (one,), (another,) = [(await keeper.snapshot(lease.run_id)).rows for lease in (plain, other)]
    assert one._replace(ref=0) == another._replace(ref=0)
    assert (await keeper.stored(plain.run_id)).position == 1


async def test_i1_of_a_repeated_batch_of_usual_rows_nothing_is_applied_twice(keeper: Keeper) -> None:
    await give_names(keeper)
    leases = [await keeper.leased() for _ in range(3)]
    batch = [usual(leases[0]), usual(leases[1], ends=True), usual(leases[2])]
    assert await keeper.commit(*batch) == ["ok"] * 3
    fresh = await keeper.leased()
    *repeated, verdict = await keeper.commit(*batch[::2], usual(fresh))
    assert repeated == ["done", "done"]
    assert verdict in {"ok", "done"}  # where it was applied before the others were judged
    for lease in (*leases, fresh):
        assert await keeper.nodes(lease.run_id) == ["step1"]


async def test_i3_a_usual_row_under_an_older_lease_is_lost_and_harms_no_other(keeper: Keeper) -> None:
    await give_names(keeper)
    stale, sound = await keeper.leased(), await keeper.leased()
    old = stale._replace(token=stale.token - 1)
    first, verdict = await keeper.commit(usual(old), usual(sound))
    assert first == "lost"
    assert verdict in {"ok", "done"}
    assert await keeper.commit(usual(old, ends=True)) == ["lost"]
    assert await keeper.nodes(stale.run_id) == []
    assert await keeper.nodes(sound.run_id) == ["step1"]


async def test_i2_a_usual_row_that_does_not_follow_what_is_stored_is_lost(keeper: Keeper) -> None:
    await give_names(keeper)
    lease = await keeper.leased()
    assert await keeper.commit(usual(grown(lease))) == ["lost"]
    assert await keeper.nodes(lease.run_id) == []


async def test_a_run_that_has_ended_is_not_lost_where_another_of_its_batch_is(keeper: Keeper) -> None:
    """What was applied before the others were judged is *done*: by its worker it must be told as ended, not as lost."""
    await give_names(keeper)
    stale, ending = await keeper.leased(), await keeper.leased()
    old = usual(stale._replace(token=stale.token - 1))
    lost, verdict = await keeper.commit(old, usual(ending, ends=True))
    assert lost == "lost"
    assert verdict in {"ok", "done"}
    assert await keeper.commit(usual(ending, ends=True)) == ["done"]
    assert await keeper.commit(usual(ending)) == ["lost"]
    assert await keeper.nodes(ending.run_id) == ["step1"]


async def test_a_run_that_ends_by_a_usual_row_is_completed_and_has_no_worker(keeper: Keeper) -> None:
    await give_names(keeper)
    lease = await keeper.leased()
    assert await keeper.commit(usual(lease, ends=True)) == ["ok"]
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.worker, stored.due_at) == ("completed", None, None)
    assert stored.finished_at is not None


async def test_usual_rows_and_others_are_one_batch(keeper: Keeper) -> None:
    await give_names(keeper)
    first, second, third = [await keeper.leased() for _ in range(3)]
    assert await keeper.commit(parked(first, row(first)), usual(second), usual(third, ends=True)) == ["ok"] * 3
    for lease in (first, second, third):
        assert await keeper.nodes(lease.run_id) == ["step1"]
