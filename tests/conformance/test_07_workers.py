"""Workers: alive while their row exists; what they held goes on without them, with blame only for a death."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from tests.conformance.keeper import EVERY, Keeper, advance, awaiting, ended, ids, parked, step
from tests.moving_clock import NOON, SECOND

if TYPE_CHECKING:
    from stepwell.store.protocol import Store
    from stepwell.store.records import WorkerRow

LEASE = 10 * SECOND


async def registered(store: Store) -> dict[str, WorkerRow]:
    """The rows of all workers, by id."""
    return {each.worker_id: each for each in await store.workers()}


async def test_an_enlisted_worker_is_known_with_its_host_and_process(keeper: Keeper, store: Store) -> None:
    await keeper.worker("ann", host="here")
    await keeper.worker("bob", host="there")
    rows = await registered(store)
    assert {worker_id: each.host for worker_id, each in rows.items()} == {"ann": "here", "bob": "there"}
    assert (rows["ann"].pid, rows["ann"].silent_for, rows["ann"].dead) == (os.getpid(), 0, False)


async def test_an_enlisting_whose_answer_was_lost_can_be_repeated(keeper: Keeper, store: Store) -> None:
    await keeper.worker("ann")
    again = await store.enlist("ann", "here")
    again.close()
    assert list(await registered(store)) == ["ann"]
    await keeper.start()
    assert len(await keeper.claim("ann")) == 1


async def test_a_worker_is_silent_since_its_last_beat(shared_keeper: Keeper) -> None:
    await shared_keeper.worker("ann")
    shared_keeper.clock.go_on(7)
    assert (await registered(shared_keeper.store))["ann"].silent_for == 7 * SECOND
    shared_keeper.heartbeat_connections["ann"].beat()
    shared_keeper.clock.go_on(2)
    assert (await registered(shared_keeper.store))["ann"].silent_for == 2 * SECOND


async def test_a_beat_tells_what_is_leased_to_the_worker_and_under_which_tokens(keeper: Keeper) -> None:
    await keeper.worker("ann")
    assert keeper.heartbeat_connections["ann"].beat() == {}
    one, other = await keeper.leased(), await keeper.leased()
    await keeper.leased("bob")
    assert keeper.heartbeat_connections["ann"].beat() == {one.run_id: one.token, other.run_id: other.token}
    await keeper.commit(ended(one))
    assert keeper.heartbeat_connections["ann"].beat() == {other.run_id: other.token}


async def test_i3_the_beat_of_a_declared_dead_worker_tells_it_so(shared_keeper: Keeper) -> None:
    await shared_keeper.worker("ann")
    await shared_keeper.store.expire("ann", None)
    assert shared_keeper.heartbeat_connections["ann"].beat() is None
    assert await registered(shared_keeper.store) == {}
    assert shared_keeper.heartbeat_connections["ann"].beat() is None


async def test_i4_the_runs_of_a_declared_dead_worker_are_due_for_others_who_are_told_of_the_crash(
    keeper: Keeper, store: Store
) -> None:
    leases = [await keeper.leased() for _ in range(3)]
    await keeper.leased("bob")
    assert await store.expire("ann", None) == 3
    claimed = await keeper.claim("cid")
    assert sorted(ids(claimed)) == sorted(ids(leases))
    assert {lease.crashes for lease in claimed} == {1}
    assert all(new.token > old.token for new in claimed for old in leases if new.run_id == old.run_id)
    assert list(await registered(store)) == ["bob", "cid"]


async def test_i3_what_a_declared_dead_worker_commits_is_lost(keeper: Keeper, store: Store) -> None:
    lease, sleeper = await keeper.leased(), await keeper.leased()
    await store.expire("ann", None)
    late = advance(sleeper, release=True, due_at=NOON + 60 * SECOND)
    assert await keeper.commit(step(lease, lean=True), late) == ["lost", "lost"]
    assert sorted(ids(await keeper.claim("bob"))) == sorted(ids([lease, sleeper]))
    assert await keeper.nodes(lease.run_id) == []


async def test_a_second_burial_finds_nobody_and_blames_nobody(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    burials = await asyncio.gather(store.expire("ann", None), store.expire("ann", None))
    assert set(burials) == {1, None}  # on a server either of them may be the first
    assert await store.expire("ann", LEASE) is None
    assert await store.expire("nobody", None) is None
    (again,) = await keeper.claim("bob")
    assert (again.run_id, again.crashes) == (lease.run_id, 1)


async def test_a_worker_is_declared_dead_for_silence_only_if_it_was_silent_so_long(
    keeper: Keeper, store: Store
) -> None:
    lease = await keeper.leased()
    keeper.clock.go_on(10)
    assert await store.expire("ann", LEASE) is None
    assert await keeper.commit(step(lease)) == ["ok"]
    keeper.clock.go_on(0.1)
    assert await store.expire("ann", LEASE) == 1


async def test_i3_a_beat_just_before_its_burial_saves_a_worker_and_all_its_runs(shared_keeper: Keeper) -> None:
    lease = await shared_keeper.leased()
    shared_keeper.clock.go_on(60)
    (seen,) = await shared_keeper.store.workers()
    assert seen.silent_for > LEASE
    assert shared_keeper.heartbeat_connections["ann"].beat() == {lease.run_id: lease.token}
    assert await shared_keeper.store.expire("ann", LEASE) is None
    assert await shared_keeper.commit(step(lease)) == ["ok"]


async def test_a_clock_that_stepped_back_makes_nobody_silent(keeper: Keeper, store: Store) -> None:
    await keeper.worker("ann")
    keeper.clock.go_on(-3600)
    assert (await registered(store))["ann"].silent_for <= 0
    assert await store.expire("ann", LEASE) is None


async def test_crashes_are_counted_as_long_as_nothing_is_journaled(keeper: Keeper) -> None:
    await keeper.start()
    seen = []
    for worker_id in ("ann", "bob", "cid"):
        (lease,) = await keeper.claim(worker_id)
        seen.append(lease.crashes)
        await keeper.crash(worker_id)
    assert seen == [0, 1, 2]


async def test_i4_a_worker_that_leaves_gives_its_runs_back_without_blame(keeper: Keeper, store: Store) -> None:
    lease, waiting = await keeper.leased(), await keeper.leased()
    await keeper.commit(awaiting(waiting, "go", due_at=NOON + SECOND))
    await store.retire("ann")
    await store.retire("ann")
    assert await registered(store) == {}
    (again,) = await keeper.claim("bob")
    assert (again.run_id, again.crashes) == (lease.run_id, 0)
    assert again.token > lease.token
    assert await keeper.commit(step(lease)) == ["lost"]
    assert (await keeper.stored(waiting.run_id)).awaiting == "go"


async def test_a_worker_that_left_claims_nothing_more(keeper: Keeper, store: Store) -> None:
    await keeper.worker("ann")
    await store.retire("ann")
    await keeper.start()
    claimed = await store.claim("ann", [await keeper.lane()], EVERY, EVERY)
    assert (claimed.leases, claimed.alive) == ([], False)


async def test_i4_runs_whose_claim_was_never_answered_can_be_given_back_without_blame(
    keeper: Keeper, store: Store
) -> None:
    known, unknown = await keeper.leased(), await keeper.leased()
    await store.give_back("ann", {unknown.run_id: unknown.token})
    assert keeper.heartbeat_connections["ann"].beat() == {known.run_id: known.token}
    (again,) = await keeper.claim("bob")
    assert (again.run_id, again.crashes) == (unknown.run_id, 0)
    assert again.token > unknown.token
    assert await keeper.commit(step(known)) == ["ok"]


async def test_i3_a_run_is_given_back_only_under_the_token_it_is_leased_with(keeper: Keeper, store: Store) -> None:
    old = await keeper.leased()
    await keeper.crash("ann")
    (lease,) = await keeper.claim("ann")
    await store.give_back("ann", {old.run_id: old.token})
    assert await keeper.commit(step(lease)) == ["ok"]


async def test_i3_nobody_gives_back_the_run_of_another(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    await keeper.worker("bob")
    await store.give_back("bob", {lease.run_id: lease.token, "no such run": 1})
    await store.give_back("bob", {})
    assert await keeper.commit(step(lease)) == ["ok"]


async def test_i4_a_sweep_finds_nothing_to_do_in_health(keeper: Keeper, store: Store) -> None:
    await keeper.start()
    await keeper.start(delay=SECOND)
    leased, asleep, waiting, timed, over, parent = await keeper.claim() + [await keeper.leased() for _ in range(5)]
    child = await keeper.new(workflow="invoice", parent_id=parent.run_id, parent_node="child")
    await keeper.commit(
        advance(asleep, release=True, due_at=NOON + SECOND, wake_at=NOON + SECOND),
        awaiting(waiting, "go"),
        awaiting(timed, "go", due_at=NOON + SECOND),
        ended(over),
        parked(parent, spawned=(child,)),
    )
    await keeper.signal(waiting.run_id, "another name")
    assert await store.sweep() == 0
    keeper.clock.go_on(3600)
    assert await store.sweep() == 0
    assert (await keeper.stored(waiting.run_id)).status == "suspended"
    assert await keeper.commit(step(leased)) == ["ok"]


async def test_i4_a_sweep_wakes_a_run_that_waits_for_nothing_that_can_come(keeper: Keeper, store: Store) -> None:
    stranded, forgotten = await keeper.leased(), await keeper.leased()
    await keeper.signal(forgotten.run_id, "go", b"7")
    await keeper.commit(parked(stranded), awaiting(forgotten, "go", seen=1))
    assert await store.sweep() == 2
    assert sorted(ids(await keeper.claim("bob"))) == sorted(ids([stranded, forgotten]))
    assert await store.sweep() == 0


async def test_i4_a_sweep_wakes_a_parent_whose_child_has_ended_without_its_hearing(
    keeper: Keeper, store: Store
) -> None:
    parent = await keeper.leased()
    child = await keeper.new(workflow="invoice", parent_id=parent.run_id, parent_node="child")
    await keeper.commit(parked(parent, spawned=(child,)))
    (lease,) = await keeper.claim(workflow="invoice")
    assert await store.sweep() == 0
    await keeper.commit(ended(lease))
    assert await store.sweep() == 1
    assert ids(await keeper.claim("bob")) == [parent.run_id]


async def test_a_run_that_is_given_back_with_a_delay_is_due_after_it(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    await store.give_back("ann", {lease.run_id: lease.token}, 5 * SECOND)
    await keeper.worker("bob")
    claimed = await store.claim("bob", [lease.lane], 10, 10)
    assert (claimed.leases, claimed.next_due_in) == ([], 5 * SECOND)


async def test_i5_what_is_freed_waits_for_no_instant_unless_it_is_parked(keeper: Keeper, store: Store) -> None:
    """By that a run whose handler may have been called is known from one that a commit let go of."""
    runs = [await keeper.leased() for _ in range(3)]
    retried, asleep, gone = runs
    await keeper.commit(
        *(advance(one, release=True, due_at=NOON, wake_at=NOON) for one in (retried, gone)),
        advance(asleep, release=True, due_at=NOON, wake_at=NOON, parked_at=NOON),
    )
    claimed = {lease.run_id: lease for lease in await keeper.claim("bob")}
    assert [claimed[one.run_id].wake_at for one in runs] == [NOON] * 3
    await store.give_back("bob", {one.run_id: claimed[one.run_id].token for one in (retried, asleep)})
    await store.retire("bob")
    again = {lease.run_id: lease for lease in await keeper.claim("cid")}
    assert [again[one.run_id].wake_at for one in runs] == [None, NOON, None]
