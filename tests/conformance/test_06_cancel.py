"""Cancel: a whole tree ends at once, whatever it was doing, and a living parent is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.conformance.keeper import (
    Keeper,
    advance,
    awaiting,
    awaiting_child,
    end_of_child,
    ended,
    grown,
    ids,
    parked,
    row,
    step,
)
from tests.mailboxes import unread_of
from tests.moving_clock import NOON, SECOND

if TYPE_CHECKING:
    from stepwell.store.protocol import Store
    from stepwell.store.records import Lease


async def child_of(keeper: Keeper, parent: Lease, node: str = "child", workflow: str = "order") -> Lease:
    """A child that its waiting parent spawned, claimed by the same worker."""
    child = await keeper.new(workflow=workflow, parent_id=parent.run_id, parent_node=node)
    assert await keeper.commit(parked(parent, spawned=(child,))) == ["ok"]
    (lease,) = await keeper.claim(workflow=workflow)
    return lease


async def tree(keeper: Keeper) -> list[Lease]:
    """A run, its child and its grandchild; the first two wait, the third is leased."""
    root = await keeper.leased()
    child = await child_of(keeper, root)
    return [root, child, await child_of(keeper, child)]


async def test_a_run_that_is_not_stored_cannot_be_canceled(store: Store) -> None:
    assert await store.cancel("no such run") is None


@pytest.mark.parametrize("status", ["completed", "failed", "canceled"])
async def test_a_run_that_has_ended_stays_as_it_is(keeper: Keeper, store: Store, status: str) -> None:
    lease = await keeper.leased()
    await (store.cancel(lease.run_id) if status == "canceled" else keeper.commit(ended(lease, status=status)))
    before = await keeper.snapshot(lease.run_id)
    keeper.clock.go_on(5)
    assert await store.cancel(lease.run_id) == []
    assert await keeper.snapshot(lease.run_id) == before


async def test_i9_runs_of_every_state_become_canceled_and_are_never_due_again(keeper: Keeper, store: Store) -> None:
    delayed = await keeper.start(delay=9 * SECOND)
    leased, asleep, waiting, undoing = [await keeper.leased() for _ in range(4)]
    await keeper.commit(
        advance(asleep, release=True, due_at=NOON + SECOND, wake_at=NOON + SECOND),
        awaiting(waiting, "go", due_at=NOON + SECOND),
        advance(undoing, row(undoing, status="failed"), status="compensating"),
    )
    due = await keeper.start()
    keeper.clock.go_on(0.5)
    for run_id in (delayed, due, leased.run_id, asleep.run_id, waiting.run_id, undoing.run_id):
        assert await store.cancel(run_id) == [run_id]
        stored = await keeper.stored(run_id)
        assert (stored.status, stored.finished_at) == ("canceled", NOON + SECOND // 2)
        assert (stored.awaiting, stored.wake_at) == (None, None)
    keeper.clock.go_on(60)
    assert await keeper.claim("bob") == []
    assert await store.sweep() == 0
    assert await keeper.nodes(undoing.run_id) == ["step1"]


async def test_i9_a_whole_tree_is_canceled_and_nobody_else(keeper: Keeper, store: Store) -> None:
    family, others = await tree(keeper), await tree(keeper)
    canceled = await store.cancel(family[0].run_id)
    assert sorted(canceled or []) == sorted(ids(family))
    for lease in family:
        assert (await keeper.stored(lease.run_id)).status == "canceled"
        assert await keeper.commit(step(lease)) == ["lost"]
    assert [(await keeper.stored(lease.run_id)).status for lease in others] == ["suspended", "suspended", "running"]
    assert await keeper.commit(step(others[2])) == ["ok"]


async def test_i9_descendants_that_have_ended_are_left_and_those_below_them_found(keeper: Keeper, store: Store) -> None:
    root, child, grandchild = await tree(keeper)
    await keeper.commit(ended(grandchild, row(grandchild), child_end=end_of_child(child)))
    (again,) = await keeper.claim()
    below = await child_of(keeper, again)
    canceled = await store.cancel(root.run_id)
    assert sorted(canceled or []) == sorted([root.run_id, child.run_id, below.run_id])
    assert (await keeper.stored(grandchild.run_id)).status == "completed"


async def test_i4_the_living_parent_of_a_canceled_run_is_told_and_due(keeper: Keeper, store: Store) -> None:
    root, child, grandchild = await tree(keeper)
    assert sorted(await store.cancel(child.run_id) or []) == sorted([child.run_id, grandchild.run_id])
    assert (await keeper.stored(root.run_id)).status == "running"
    (again,) = await keeper.claim("bob")
    assert (again.run_id, again.messages) == (root.run_id, 1)
    (message,) = await unread_of(store, again)
    assert (message.kind, message.name, message.value) == ("child", "child", None)
    assert message.error is not None
    assert (message.error.node, message.error.type) == ("child", "ChildCanceled")
    assert child.run_id in message.error.message


async def test_i8_a_parent_hears_of_a_cancel_once_however_often_it_is_asked(keeper: Keeper, store: Store) -> None:
    root, child, _ = await tree(keeper)
    await store.cancel(child.run_id)
    assert await store.cancel(child.run_id) == []
    assert len(await keeper.messages(root)) == 1


async def test_i8_a_parent_that_drives_at_the_moment_hears_of_the_cancel_too(keeper: Keeper, store: Store) -> None:
    parent = await keeper.leased()
    child = await keeper.leased("bob", parent_id=parent.run_id, parent_node="child")
    await store.cancel(child.run_id)
    assert await keeper.commit(awaiting_child(parent)) == ["message"]
    assert len(await keeper.messages(parent)) == 1


async def test_a_parent_that_has_ended_hears_nothing_of_a_cancel(keeper: Keeper, store: Store) -> None:
    parent = await keeper.leased()
    child = await keeper.leased("bob", parent_id=parent.run_id, parent_node="child")
    await keeper.commit(ended(parent))
    before = await keeper.stored(parent.run_id)
    assert await store.cancel(child.run_id) == [child.run_id]
    assert await keeper.stored(parent.run_id) == before


async def test_i8_the_end_of_a_child_that_comes_after_its_cancel_tells_the_parent_nothing(
    keeper: Keeper, store: Store
) -> None:
    root, child, _ = await tree(keeper)
    await store.cancel(child.run_id)
    assert await keeper.commit(ended(child, child_end=end_of_child(root))) == ["lost"]
    assert len(await keeper.messages(root)) == 1


async def test_i9_a_child_that_was_spawned_just_before_a_cancel_is_canceled_too(keeper: Keeper, store: Store) -> None:
    root = await keeper.leased()
    child = await keeper.new(parent_id=root.run_id, parent_node="child")
    verdicts, canceled = await asyncio.gather(
        keeper.commit(parked(root, spawned=(child,))),
        store.cancel(root.run_id),
    )
    assert verdicts == ["ok"]
    assert sorted(canceled or []) == sorted([root.run_id, child.run_id])
    assert (await keeper.stored(child.run_id)).status == "canceled"
    assert await keeper.claim("bob") == []


async def test_i9_a_run_that_ends_as_it_is_canceled_has_one_end(keeper: Keeper, store: Store) -> None:
    for first in ("commit", "cancel"):
        parent = await keeper.leased()
        await keeper.commit(parked(parent))
        child = await keeper.leased(parent_id=parent.run_id, parent_node="child")
        asked = [keeper.commit(ended(child, child_end=end_of_child(parent))), store.cancel(child.run_id)]
        await asyncio.gather(*(asked if first == "commit" else reversed(asked)))
        status = (await keeper.stored(child.run_id)).status
        assert status in {"completed", "canceled"}
        (again,) = await keeper.claim("bob")
        assert len(await keeper.messages(again)) == 1
        await keeper.store.cancel(parent.run_id)


async def test_cancels_of_overlapping_trees_at_once_cancel_each_run_once(keeper: Keeper, store: Store) -> None:
    family = await tree(keeper)
    canceled = await asyncio.gather(*(store.cancel(lease.run_id) for lease in family))
    assert sorted(run_id for found in canceled for run_id in found or []) == sorted(ids(family))


async def test_i3_a_worker_that_holds_a_canceled_run_is_not_asked_to_give_it_back(keeper: Keeper, store: Store) -> None:
    lease, other = await keeper.leased(), await keeper.leased()
    await store.cancel(lease.run_id)
    assert keeper.heartbeat_connections["ann"].beat() == {other.run_id: other.token}
    await store.retire("ann")
    assert (await keeper.stored(lease.run_id)).status == "canceled"
    assert await keeper.commit(step(grown(lease))) == ["lost"]
