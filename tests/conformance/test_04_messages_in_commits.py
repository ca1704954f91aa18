"""Messages and commits: what rests on the absence of one is refused when some came; ends of children arrive once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.mailbox import MessageName
from stepwell.errors import Failure
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
    timed_out,
)
from tests.mailboxes import unread_of
from tests.moving_clock import NOON, SECOND

if TYPE_CHECKING:
    from stepwell.store.protocol import Store

GO = MessageName("signal", "go")
FAILED = Failure("child", "ChildFailed", "why")


async def test_i6_a_park_is_refused_when_a_signal_came_and_not_when_it_was_seen(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.signal(lease.run_id, "other")
    assert await keeper.commit(awaiting(lease, "other")) == ["message"]
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.awaiting) == ("running", None)
    assert await keeper.commit(awaiting(lease, "other", seen=1)) == ["ok"]
    assert (await keeper.stored(lease.run_id)).awaiting == "other"


async def test_i6_messages_of_other_names_refuse_no_park_and_no_timeout(keeper: Keeper) -> None:
    parks, waits, late = [await keeper.leased() for _ in range(3)]
    for lease in (parks, waits, late):
        for name in ("other", "another", "go-on"):
            await keeper.signal(lease.run_id, name)
    await keeper.signal(waits.run_id, "child")
    batch = [awaiting(parks, "go"), awaiting_child(waits), timed_out(late, "go")]
    assert await keeper.commit(*batch) == ["ok", "ok", "ok"]
    assert (await keeper.stored(parks.run_id)).awaiting == "go"
    assert await keeper.resume(parks.run_id, "go")


async def test_i6_a_message_of_the_name_among_many_others_refuses_the_park(keeper: Keeper) -> None:
    lease = await keeper.leased()
    for name in ("go", "other", "go", "another"):
        await keeper.signal(lease.run_id, name)
    used = advance(lease, row(lease), consumed=(1,))
    assert await keeper.commit(used) == ["ok"]
    park = awaiting(grown(lease), "go", seen=2)
    assert await keeper.commit(park) == ["message"]
    park.seen = 3
    assert await keeper.commit(park) == ["ok"]


async def test_i6_who_saw_more_messages_than_are_counted_has_to_look_again(keeper: Keeper) -> None:
    """As after a failover to a standby that lacks the last ones: the next that come would be taken for seen."""
    lease = await keeper.leased()
    await keeper.signal(lease.run_id, "other")
    assert await keeper.commit(awaiting(lease, "go", seen=7)) == ["message"]
    assert await keeper.commit(timed_out(lease, "go", seen=7)) == ["message"]
    assert await keeper.commit(awaiting(lease, "go", seen=1)) == ["ok"]


async def test_i6_a_refused_advance_leaves_nothing_of_itself(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.signal(lease.run_id, "go", b"7")
    child = await keeper.new(parent_id=lease.run_id, parent_node="child")
    refused = parked(lease, row(lease), absent=(GO,), seen=0, spawned=(child,), consumed=(1,))
    assert await keeper.commit(refused) == ["message"]
    assert await keeper.nodes(lease.run_id) == []
    assert await keeper.store.reader.snapshot(child.run_id) is None
    assert await keeper.messages(lease) == [(1, "go", b"7")]
    assert await keeper.commit(step(lease)) == ["ok"]


async def test_i6_a_timeout_is_refused_when_a_signal_was_accepted_before_it(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.commit(awaiting(lease, "go", due_at=NOON + SECOND))
    keeper.clock.go_on(1)
    (again,) = await keeper.claim()
    assert await keeper.resume(lease.run_id, "go", b"7")
    assert await keeper.commit(timed_out(again, "go")) == ["message"]
    assert await keeper.nodes(lease.run_id) == []
    assert await keeper.messages(again) == [(1, "go", b"7")]


async def test_i6_a_resume_is_refused_when_the_timeout_was_committed_before_it(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.commit(awaiting(lease, "go", due_at=NOON + SECOND))
    keeper.clock.go_on(1)
    (again,) = await keeper.claim()
    assert await keeper.commit(timed_out(again, "go")) == ["ok"]
    assert not await keeper.resume(lease.run_id, "go", b"7")
    assert await keeper.messages(again) == []


async def test_an_outcome_that_rests_on_no_mail_is_taken_whatever_came(keeper: Keeper) -> None:
    lean, full = await keeper.leased(), await keeper.leased()
    for lease in (lean, full):
        await keeper.signal(lease.run_id, "go", b"7")
    assert await keeper.commit(step(lean, lean=True), step(full)) == ["ok", "ok"]
    for lease in (lean, full):
        assert await keeper.messages(lease) == [(1, "go", b"7")]


async def test_i6_mail_that_an_outcome_used_is_never_given_again(keeper: Keeper) -> None:
    lease = await keeper.leased()
    for number in range(3):
        await keeper.signal(lease.run_id, "go", b"%d" % number)
    assert await keeper.commit(advance(lease, row(lease, value=b"0"), consumed=(1, 2))) == ["ok"]
    assert await keeper.messages(lease) == [(3, "go", b"2")]
    await keeper.crash("ann")
    (again,) = await keeper.claim("bob")
    assert again.messages == 3
    assert await keeper.messages(again) == [(3, "go", b"2")]


async def test_i6_mail_that_a_lost_commit_would_have_used_stays(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.signal(lease.run_id, "go", b"7")
    await keeper.crash("ann")
    (again,) = await keeper.claim("bob")
    assert await keeper.commit(advance(lease, row(lease), consumed=(1,))) == ["lost"]
    assert await keeper.messages(again) == [(1, "go", b"7")]


async def test_i8_a_spawned_child_is_a_run_of_its_own_that_knows_its_parent(keeper: Keeper) -> None:
    parent = await keeper.leased()
    child = await keeper.new(workflow="invoice", value=b"7", parent_id=parent.run_id, parent_node="bill")
    assert await keeper.commit(parked(parent, row(parent), spawned=(child,))) == ["ok"]
    snapshot = await keeper.snapshot(parent.run_id)
    assert (snapshot.run.status, [run.run_id for run in snapshot.children.runs]) == ("suspended", [child.run_id])
    assert await keeper.claim("bob") == []
    (lease,) = await keeper.claim("bob", workflow="invoice")
    assert (lease.run_id, lease.value) == (child.run_id, b"7")
    assert (lease.parent_id, lease.parent_node) == (parent.run_id, "bill")


async def test_i8_a_repeated_spawn_makes_no_second_child(keeper: Keeper) -> None:
    parent = await keeper.leased()
    child = await keeper.new(parent_id=parent.run_id, parent_node="child")
    spawn = parked(parent, row(parent), spawned=(child,))
    assert await keeper.commit(spawn) == ["ok"]
    assert await keeper.commit(spawn) == ["done"]
    assert await keeper.listed(parent_id=parent.run_id) == [child.run_id]


async def test_i8_a_lost_advance_spawns_and_tells_nothing(keeper: Keeper) -> None:
    parent, stale = await keeper.leased(), await keeper.leased("bob", parent_node="child")
    await keeper.crash("bob")
    child = await keeper.new(parent_id=stale.run_id, parent_node="child")
    lost = [parked(stale, spawned=(child,)), ended(stale, child_end=end_of_child(parent))]
    for one in lost:
        assert await keeper.commit(one, worker_id="bob") == ["lost"]
    assert await keeper.store.reader.snapshot(child.run_id) is None
    assert await keeper.messages(parent) == []


async def test_i8_the_end_of_a_child_wakes_its_waiting_parent_with_its_results(keeper: Keeper) -> None:
    parent = await keeper.leased()
    child = await keeper.new(workflow="invoice", parent_id=parent.run_id, parent_node="bill")
    await keeper.commit(parked(parent, spawned=(child,)))
    (lease,) = await keeper.claim("bob", workflow="invoice")
    end = ended(lease, row(lease), child_end=end_of_child(parent, "bill"))
    assert await keeper.commit(end, worker_id="bob") == ["ok"]
    assert (await keeper.stored(parent.run_id)).status == "running"
    (again,) = await keeper.claim("bob")
    assert (again.run_id, again.messages, again.parked_at) == (parent.run_id, 1, 1)
    assert await keeper.messages(again) == [(1, "bill", b'{"made":1}')]
    assert await keeper.commit(end, worker_id="bob") == ["done"]
    assert await keeper.messages(again) == [(1, "bill", b'{"made":1}')]


async def test_i8_the_failure_of_a_child_reaches_its_parent(keeper: Keeper) -> None:
    parent = await keeper.leased()
    await keeper.commit(parked(parent))
    child = await keeper.leased("bob", parent_id=parent.run_id, parent_node="child")
    await keeper.commit(ended(child, status="failed", child_end=end_of_child(parent, error=FAILED)), worker_id="bob")
    (again,) = await keeper.claim("bob")
    (message,) = await unread_of(keeper.store, again)
    assert (message.kind, message.name, message.value, message.error) == ("child", "child", None, FAILED)


async def test_i8_the_end_of_a_child_refuses_the_park_of_a_parent_that_had_not_heard_of_it(keeper: Keeper) -> None:
    parent = await keeper.leased()
    child = await keeper.leased("bob", parent_id=parent.run_id, parent_node="child")
    await keeper.commit(ended(child, child_end=end_of_child(parent)), worker_id="bob")
    assert (await keeper.stored(parent.run_id)).status == "running"
    assert await keeper.commit(awaiting_child(parent)) == ["message"]
    assert await keeper.messages(parent) == [(1, "child", b'{"made":1}')]


async def test_i8_the_end_of_a_child_does_not_wake_a_parent_that_waits_for_a_signal(keeper: Keeper) -> None:
    parent = await keeper.leased()
    child = await keeper.leased("bob", parent_id=parent.run_id, parent_node="child")
    await keeper.commit(awaiting(parent, "go"))
    await keeper.commit(ended(child, child_end=end_of_child(parent)), worker_id="bob")
    assert await keeper.claim("cid") == []
    assert (await keeper.stored(parent.run_id)).awaiting == "go"


async def test_i8_a_parent_that_has_ended_gets_no_mail(keeper: Keeper) -> None:
    parent = await keeper.leased()
    child = await keeper.leased("bob", parent_id=parent.run_id, parent_node="child")
    await keeper.commit(ended(parent))
    before = await keeper.stored(parent.run_id)
    assert await keeper.commit(ended(child, child_end=end_of_child(parent)), worker_id="bob") == ["ok"]
    assert await keeper.stored(parent.run_id) == before
    assert await keeper.messages(parent) == []


async def test_i8_a_batch_with_a_parents_park_and_the_ends_of_its_children_counts_each_once(keeper: Keeper) -> None:
    """The parent's own change and two messages to it merge into one row; a lost child delivers nothing."""
    parent = await keeper.leased()
    lost = await keeper.leased("ann", parent_id=parent.run_id, parent_node="lost")
    first, second = [await keeper.leased("ann", parent_id=parent.run_id, parent_node=node) for node in ("a", "b")]
    await keeper.store.cancel(lost.run_id)
    (message,) = await unread_of(keeper.store, parent)
    batch = [
        ended(lost, child_end=end_of_child(parent, "lost")),
        ended(first, row(first), child_end=end_of_child(parent, "a")),
        awaiting_child(parent, row(parent), seen=message.n),
        ended(second, row(second), child_end=end_of_child(parent, "b")),
    ]
    assert await keeper.commit(*batch) == ["lost", "ok", "ok", "ok"]
    (again,) = await keeper.claim("bob")
    assert (again.run_id, again.seq, again.messages) == (parent.run_id, 1, 3)
    assert [name for _, name, _ in await keeper.messages(again)] == ["lost", "a", "b"]
    assert await keeper.commit(*batch) == ["lost", "done", "lost", "done"]
    assert [name for _, name, _ in await keeper.messages(again)] == ["lost", "a", "b"]


async def test_i8_children_that_end_under_two_workers_at_once_are_both_heard(keeper: Keeper) -> None:
    parent = await keeper.leased()
    children = {
        worker_id: await keeper.leased(worker_id, parent_id=parent.run_id, parent_node=worker_id)
        for worker_id in ("bob", "cid")
    }
    await keeper.commit(parked(parent))
    for worker_id, child in children.items():
        end = ended(child, child_end=end_of_child(parent, worker_id))
        assert await keeper.commit(end, worker_id=worker_id) == ["ok"]
    (again,) = await keeper.claim("dan")
    assert [name for _, name, _ in await keeper.messages(again)] == ["bob", "cid"]


async def test_i9_a_child_is_not_spawned_by_a_parent_that_was_canceled_first(keeper: Keeper) -> None:
    parent = await keeper.leased()
    child = await keeper.new(parent_id=parent.run_id, parent_node="child")
    await keeper.store.cancel(parent.run_id)
    assert await keeper.commit(parked(parent, spawned=(child,))) == ["lost"]
    assert await keeper.store.reader.snapshot(child.run_id) is None
    assert await keeper.claim("bob") == []


async def test_many_children_are_spawned_in_one_batch(keeper: Keeper) -> None:
    parents = [await keeper.leased() for _ in range(30)]
    children = [await keeper.new(value=b"%d" % at, parent_id=lease.run_id) for at, lease in enumerate(parents)]
    batch = [parked(lease, spawned=(child,)) for lease, child in zip(parents, children, strict=True)]
    assert await keeper.commit(*batch) == ["ok"] * 30
    claimed = await keeper.claim("bob")
    assert sorted(ids(claimed)) == sorted(child.run_id for child in children)
    assert {lease.run_id: lease.value for lease in claimed} == {child.run_id: child.value for child in children}
    assert await keeper.commit(*(step(grown(lease, 0)) for lease in claimed), worker_id="bob") == ["ok"] * 30


async def test_i6_a_park_for_several_signals_is_refused_when_one_of_them_came(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.signal(lease.run_id, "foreign", b"1")
    await keeper.signal(lease.run_id, "stop", b"2")
    assert await keeper.commit(awaiting(lease, "go", "stop")) == ["message"]
    assert await keeper.commit(awaiting(lease, "go", "wait")) == ["ok"]
    assert (await keeper.stored(lease.run_id)).awaiting == "go wait"


async def test_i6_what_a_run_on_a_worker_waits_for_is_named_with_the_rows_of_a_commit(keeper: Keeper) -> None:
    lease = await keeper.leased()
    kept = advance(lease, row(lease, n=1, status="suspended"), awaiting=("go",), absent=(GO,))
    assert await keeper.commit(kept) == ["ok"]
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.awaiting, stored.worker) == ("running", "go", "ann")
    assert await keeper.commit(kept) == ["done"]
    assert await keeper.commit(advance(grown(lease), row(lease, 2))) == ["ok"]
    assert (await keeper.stored(lease.run_id)).awaiting is None


async def test_i6_the_key_of_a_refused_message_is_free_and_that_of_a_used_one_is_not(
    keeper: Keeper, store: Store
) -> None:
    lease = await keeper.leased()
    for key in ("mended", "kept"):
        assert await store.deliver(lease.run_id, "go", b"1", key=key, waiting_only=False)
    refused = row(lease, n=1, status="refused", kind="signal", value=b"1", error=Failure("a", "PayloadError", "why"))
    assert await keeper.commit(advance(lease, refused, consumed=(1, 2), freed=(1,))) == ["ok"]
    assert await keeper.messages(lease) == []
    assert await store.reader.keyed_message(lease.run_id, "mended") is None
    for key in ("mended", "kept"):
        answer = await store.deliver(lease.run_id, "go", b"2", key=key, waiting_only=False)
        assert answer is not None
        assert answer.accepted
    assert await keeper.messages(lease) == [(3, "go", b"2")]


async def test_the_last_refused_row_counts_what_its_wait_refused_after_it(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    facts = {"status": "refused", "kind": "signal", "value": b"1", "error": Failure("a", "PayloadError", "why")}
    rows = [row(lease, at, n=at, **facts) for at in (1, 2)]
    assert await keeper.commit(advance(lease, *rows)) == ["ok"]
    await keeper.signal(lease.run_id, "go", b"1")
    counted = advance(grown(lease, 2), consumed=(1,), freed=(1,), recounted=rows[1]._replace(detail=b"1"))
    assert await keeper.commit(counted) == ["ok"]
    assert await keeper.commit(counted) == ["ok"]
    assert await store.reader.journal(lease.run_id) == [rows[0], rows[1]._replace(detail=b"1")]
    assert await keeper.messages(lease) == []
    again = advance(grown(lease, 2), recounted=rows[0]._replace(detail=b"9"))
    assert await keeper.commit(again, worker_id="bob") == ["lost"]
    assert await store.reader.journal(lease.run_id) == [rows[0], rows[1]._replace(detail=b"1")]
