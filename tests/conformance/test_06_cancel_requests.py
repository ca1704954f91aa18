"""A cancel that compensates is a request, kept in the rows of a tree; an advance that lets go of a run must know it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell.store.records import AT_ONCE, Leased
from tests.conformance.keeper import (
    Keeper,
    advance,
    awaiting,
    end_of_child,
    ended,
    grown,
    ids,
    parked,
    row,
    step,
    usual,
)
from tests.conformance.test_06_cancel import tree
from tests.moving_clock import NOON, SECOND

if TYPE_CHECKING:
    from stepwell.store.protocol import Store


async def test_a_run_that_is_not_stored_cannot_be_asked(store: Store) -> None:
    assert await store.request_cancel("no such run") is None
    assert await store.request_cancel("00000000-0000-7000-8000-00000000abcd") is None


@pytest.mark.parametrize("status", ["completed", "failed", "canceled", "compensating"])
async def test_a_run_that_has_ended_or_compensates_stays_as_it_is(keeper: Keeper, store: Store, status: str) -> None:
    lease = await keeper.leased()
    if status == "compensating":
        await keeper.commit(advance(lease, row(lease), status=status))
    else:
        await (store.cancel(lease.run_id) if status == "canceled" else keeper.commit(ended(lease, status=status)))
    before = await keeper.snapshot(lease.run_id)
    keeper.clock.go_on(5)
    assert await store.request_cancel(lease.run_id) == []
    assert await keeper.snapshot(lease.run_id) == before


async def test_the_request_is_kept_once_and_told_to_the_owner_and_the_next_one(keeper: Keeper, store: Store) -> None:
    lease, other = await keeper.leased(), await keeper.leased()
    assert await store.request_cancel(lease.run_id) == [lease.run_id]
    keeper.clock.go_on(5)
    assert await store.request_cancel(lease.run_id) == []
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.worker, stored.cancel_requested_at) == ("running", "ann", NOON)
    tokens = {lease.run_id: lease.token, other.run_id: other.token}
    assert await store.reader.leased("ann") == Leased(tokens, [lease.run_id])
    await keeper.crash("ann")
    again = {one.run_id: one.cancel_requested_at for one in await keeper.claim("bob")}
    assert again == {lease.run_id: NOON, other.run_id: None}


async def test_what_no_worker_holds_is_due_at_once_unless_it_waits_for_a_child(keeper: Keeper, store: Store) -> None:
    pending = await keeper.start(delay=60 * SECOND)
    asleep, waiting = await keeper.leased(), await keeper.leased()
    await keeper.commit(
        advance(asleep, release=True, due_at=NOON + SECOND, wake_at=NOON + SECOND, parked_at=NOON),
        awaiting(waiting, "go"),
    )
    for run_id in (pending, asleep.run_id, waiting.run_id):
        assert await store.request_cancel(run_id) == [run_id]
    assert sorted(ids(await keeper.claim())) == sorted([pending, asleep.run_id, waiting.run_id])
    root, child, grandchild = await tree(keeper)
    asked = await store.request_cancel(root.run_id)
    assert sorted(asked or []) == sorted(ids([root, child, grandchild]))
    assert await keeper.claim("bob") == []


async def test_i9_what_lets_go_of_a_run_is_refused_unless_it_knows(keeper: Keeper, store: Store) -> None:
    shapes: dict[str, Any] = {
        "ends": {"release": True, "ended": True, "status": "completed"},
        "fails": {"release": True, "ended": True, "status": "failed"},
        "sleeps": {"release": True, "due_at": NOON + SECOND, "wake_at": NOON + SECOND},
        "gives way": {"release": True, "due_at": AT_ONCE},
    }
    leases = {name: await keeper.leased() for name in shapes}
    for lease in leases.values():
        await store.request_cancel(lease.run_id)
    told = await keeper.commit(*(advance(leases[name], row(leases[name]), **facts) for name, facts in shapes.items()))
    assert told == ["cancel"] * 4
    assert [await keeper.nodes(lease.run_id) for lease in leases.values()] == [[]] * 4
    told = await keeper.commit(
        *(advance(leases[name], row(leases[name]), knows_cancel=True, **facts) for name, facts in shapes.items())
    )
    assert told == ["ok"] * 4
    assert (await keeper.stored(leases["ends"].run_id)).status == "completed"


async def test_i9_a_usual_end_is_refused_and_what_stays_is_not(keeper: Keeper, store: Store) -> None:
    assert await keeper.commit(usual(await keeper.leased())) == ["ok"]  # from here on its names have numbers
    ends, stays, sound = [await keeper.leased() for _ in range(3)]
    for lease in (ends, stays):
        await store.request_cancel(lease.run_id)
    refused, *others = await keeper.commit(usual(ends, ends=True), usual(stays), usual(sound, ends=True))
    assert (refused, set(others) <= {"ok", "done"}) == ("cancel", True)
    assert (await keeper.stored(ends.run_id)).status == "running"
    assert await keeper.commit(step(grown(stays), lean=True)) == ["ok"]


async def test_i8_a_child_is_not_spawned_by_a_run_that_is_to_be_canceled(keeper: Keeper, store: Store) -> None:
    parent = await keeper.leased()
    child = await keeper.new(parent_id=parent.run_id, parent_node="child")
    await store.request_cancel(parent.run_id)
    assert await keeper.commit(parked(parent, spawned=(child,))) == ["cancel"]
    assert await store.reader.snapshot(child.run_id) is None


async def test_i1_a_commit_whose_answer_was_lost_is_done_whatever_was_requested_since(
    keeper: Keeper, store: Store
) -> None:
    lease = await keeper.leased()
    gives_way = advance(lease, row(lease), release=True, due_at=AT_ONCE)
    assert await keeper.commit(gives_way) == ["ok"]
    await store.request_cancel(lease.run_id)
    assert await keeper.commit(gives_way) == ["done"]


async def test_the_end_of_a_child_that_was_canceled_so_wakes_its_parent(keeper: Keeper, store: Store) -> None:
    root, child, grandchild = await tree(keeper)
    await store.request_cancel(root.run_id)
    below = grandchild
    for parent in (child, root):
        end = ended(below, status="canceled", child_end=end_of_child(parent))
        end.knows_cancel = True
        assert await keeper.commit(end) == ["ok"]
        (below,) = await keeper.claim()
        assert (below.run_id, below.cancel_requested_at) == (parent.run_id, NOON)


async def test_a_plain_cancel_ends_what_is_being_canceled(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    await store.request_cancel(lease.run_id)
    assert await store.cancel(lease.run_id) == [lease.run_id]
    assert await keeper.commit(advance(lease, row(lease), knows_cancel=True)) == ["lost"]
    assert (await keeper.stored(lease.run_id)).status == "canceled"


async def test_requests_cancels_and_commits_at_once_leave_no_run_in_between(keeper: Keeper, store: Store) -> None:
    leases = [await keeper.leased() for _ in range(8)]
    ends = [ended(lease) for lease in leases]
    committing = asyncio.ensure_future(keeper.commit(*ends))
    asked = await asyncio.gather(*(store.request_cancel(lease.run_id) for lease in leases))
    for lease, end, verdict, ids_asked in zip(leases, ends, await committing, asked, strict=True):
        if verdict == "busy":  # the request had the row; the worker repeats the commit
            (verdict,) = await keeper.commit(end)  # noqa: PLW2901  the answer that counts
        stored = await keeper.stored(lease.run_id)
        was_asked = ids_asked == [lease.run_id]
        assert (verdict, stored.status) in ([("cancel", "running")] if was_asked else [("ok", "completed")])
