"""Claims over several lanes, beside what others hold, and of the worst; sweeps beside messages of no concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell.store.records import Offer
from tests.conformance.keeper import (
    EVERY,
    Keeper,
    advance,
    awaiting,
    end_of_child,
    ended,
    grown,
    ids,
    parked,
    row,
)
from tests.moving_clock import SECOND

if TYPE_CHECKING:
    from stepwell.store.protocol import Store


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_i4_an_empty_claim_tells_the_next_timer_of_all_its_lanes(
    keeper: Keeper, store: Store, order: tuple[int, ...]
) -> None:
    """Whoever sleeps for longer than to the earliest of them lets it wait."""
    lanes = []
    for seconds in (40, 20, 30):
        await keeper.start(workflow=f"every {seconds} s", delay=seconds * SECOND)
        lanes.append(await keeper.lane(f"every {seconds} s"))
    claimed = await store.claim(await keeper.worker(), [lanes[at] for at in order], EVERY, EVERY)
    assert (claimed.leases, claimed.next_due_in) == ([], 20 * SECOND)


async def test_what_others_hold_is_nothing_to_come_back_for(keeper: Keeper, store: Store) -> None:
    """Else each idle worker would ask every 50 ms for as long as another one drives a run."""
    await keeper.leased()
    claimed = await store.claim(await keeper.worker("bob"), [await keeper.lane()], EVERY, EVERY)
    assert (claimed.leases, claimed.next_due_in) == ([], None)


async def test_i4_a_sweep_leaves_a_run_that_waits_again_for_a_signal_of_a_name_it_has_used(
    keeper: Keeper, store: Store
) -> None:
    lease = await keeper.leased()
    await keeper.signal(lease.run_id, "go")
    await keeper.commit(advance(lease, row(lease), consumed=(1,), seen=1))
    await keeper.commit(awaiting(grown(lease), "go", seen=1))
    assert await store.sweep() == 0
    assert (await keeper.stored(lease.run_id)).status == "suspended"


async def test_i4_a_sweep_leaves_a_run_that_waits_for_a_signal_called_like_a_child_that_ended(
    keeper: Keeper, store: Store
) -> None:
    parent = await keeper.leased()
    child = await keeper.leased(parent_id=parent.run_id, parent_node="go")
    await keeper.commit(ended(child, child_end=end_of_child(parent, "go")))
    await keeper.commit(awaiting(parent, "go", seen=1))
    assert await store.sweep() == 0
    assert (await keeper.stored(parent.run_id)).status == "suspended"


async def test_i6_a_signal_called_like_a_child_is_not_its_end(keeper: Keeper, store: Store) -> None:
    """And wakes no parent that waits for the child."""
    parent = await keeper.leased()
    child = await keeper.new(workflow="invoice", parent_id=parent.run_id, parent_node="go")
    await keeper.commit(advance(parent, release=True, status="suspended", parked_at=1, spawned=(child,)))
    await keeper.signal(parent.run_id, "go")
    assert await keeper.claim("bob") == []
    assert (await keeper.stored(parent.run_id)).status == "suspended"


async def test_i8_a_parent_that_ends_in_one_batch_with_its_child_gets_no_mail(keeper: Keeper) -> None:
    parent = await keeper.leased()
    child = await keeper.leased(parent_id=parent.run_id, parent_node="child")
    assert await keeper.commit(ended(child, child_end=end_of_child(parent)), ended(parent)) == ["ok", "ok"]
    assert await keeper.messages(parent) == []
    assert (await keeper.stored(parent.run_id)).status == "completed"


async def test_of_runs_that_crashed_three_workers_or_more_the_one_with_the_fewest_comes_first(keeper: Keeper) -> None:
    """Though it is due later: the one that crashed most is most likely the one to blame."""

    async def crashes(run_id: str, times: int) -> None:
        for number in range(times):
            name = f"{run_id} {number}"
            found = await keeper.claim(name, suspects=0 if number < 2 else 1)
            assert ids(found) == [run_id]
            await keeper.crash(name)

    worse, better = await keeper.start(), await keeper.new()
    await crashes(worse, 4)
    await keeper.store.start([better])
    await crashes(better.run_id, 3)
    (first,) = await keeper.claim("ann", suspects=1)
    assert (first.run_id, first.crashes) == (better.run_id, 3)


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_i4_a_sweep_wakes_a_parent_whose_child_has_ended_in_any_way(
    keeper: Keeper, store: Store, status: str
) -> None:
    parent = await keeper.leased()
    child = await keeper.leased(parent_id=parent.run_id, parent_node="child")
    await keeper.commit(parked(parent))
    assert await store.sweep() == 0
    await keeper.commit(ended(child, status=status))
    assert await store.sweep() == 1
    assert ids(await keeper.claim("bob")) == [parent.run_id]


async def test_of_children_those_that_live_are_told_and_of_definitions_those_that_a_worker_serves(
    keeper: Keeper, store: Store
) -> None:
    parent = await keeper.leased()
    over = [await keeper.leased(parent_id=parent.run_id, parent_node=f"node{at}") for at in range(3)]
    await keeper.commit(ended(over[0]), ended(over[1], status="failed"))
    await store.cancel(over[2].run_id)
    living = await keeper.start(parent_id=parent.run_id, parent_node="living")
    served, left = await keeper.lane("served"), await keeper.lane("left")
    for name, lane in (("serving", served), ("gone", left)):
        keeper.heartbeat_connections[name] = await store.enlist(name, "here", Offer((lane,), 1, 1))
    await store.retire("gone")
    found = await store.reader.situation([parent.run_id])
    assert [child.run_id for child in found.children] == [living]
    assert list(found.served) == [served]
