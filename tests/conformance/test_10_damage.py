"""Runs whose rows a worker does not understand: put off longer each time, looked at by another judge at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.keeper import grown, ids, step

if TYPE_CHECKING:
    from stepwell.store.records import Lease
    from tests.conformance.keeper import Keeper

MINUTE = 60
REASON = "row 2 is missing"


async def parked(keeper: Keeper, lease: Lease, judge: str = "0.1.0 v1") -> bool:
    """Whether the run could be put off as damaged."""
    return bool(await keeper.store.park_damaged("ann", lease, REASON, judge))


async def test_a_damaged_run_keeps_its_status_and_tells_why(keeper: Keeper) -> None:
    lease = await keeper.leased()
    assert await parked(keeper, lease)
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.worker, stored.damaged) == ("running", None, REASON)
    assert [run.damaged for run in (await keeper.page()).runs] == [REASON]


async def test_a_damaged_run_is_looked_at_after_a_minute_then_two_and_at_last_once_an_hour(keeper: Keeper) -> None:
    lease = await keeper.leased()
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        assert await parked(keeper, lease)
        keeper.clock.go_on(minutes * MINUTE - 1)
        assert await keeper.claim() == []
        keeper.clock.go_on(1)
        (lease,) = await keeper.claim()


async def test_another_judge_looks_at_once_and_the_same_one_does_not(keeper: Keeper) -> None:
    lease = await keeper.leased()
    lane = await keeper.lane()
    assert await parked(keeper, lease)
    assert await keeper.store.recheck_damaged([lane], "0.1.0 v1") == 0
    assert await keeper.store.recheck_damaged([lane + 1], "0.2.0 v1") == 0
    assert await keeper.claim() == []
    assert await keeper.store.recheck_damaged([lane], "0.2.0 v1") == 1
    assert await keeper.store.recheck_damaged([lane], "0.2.0 v1") == 0
    assert ids(await keeper.claim()) == [lease.run_id]


async def test_a_run_that_goes_on_is_damaged_no_more(keeper: Keeper) -> None:
    for lean in (True, False):
        lease = await keeper.leased()
        assert await parked(keeper, lease)
        keeper.clock.go_on(MINUTE)
        (again,) = await keeper.claim()
        assert await keeper.commit(step(again, lean=lean)) == ["ok"]
        assert (await keeper.stored(lease.run_id)).damaged is None
        assert await parked(keeper, grown(again))
        keeper.clock.go_on(MINUTE)
        (again,) = await keeper.claim()
        await keeper.store.cancel(again.run_id)


async def test_i3_only_its_owner_calls_a_run_damaged(keeper: Keeper) -> None:
    lease = await keeper.leased()
    assert not await keeper.store.park_damaged("bob", lease, REASON, "0.1.0 v1")
    assert not await parked(keeper, lease._replace(token=lease.token + 1))
    assert (await keeper.stored(lease.run_id)).damaged is None
    assert await keeper.commit(step(lease)) == ["ok"]


async def test_a_signal_wakes_a_damaged_run_that_waits_for_it_and_cancel_ends_it(keeper: Keeper) -> None:
    lease = await keeper.leased()
    assert await parked(keeper, lease)
    await keeper.signal(lease.run_id)
    assert await keeper.store.cancel(lease.run_id) == [lease.run_id]
    assert (await keeper.stored(lease.run_id)).status == "canceled"
