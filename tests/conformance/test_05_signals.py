"""Signals: accepted once per key, kept in order, waking whoever waits for them and nobody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from stepwell.core.mailbox import MessageName
from stepwell.store.records import Delivered, KeyedMessage
from tests.conformance.keeper import Keeper, advance, awaiting, ended, ids, row
from tests.moving_clock import NOON, SECOND

if TYPE_CHECKING:
    from stepwell.store.protocol import Store
    from stepwell.store.records import Lease

either = pytest.mark.parametrize("waiting_only", [False, True])


async def waiting(keeper: Keeper, name: str = "go", due_at: int | None = None) -> Lease:
    """A run that waits for a signal; its old lease."""
    lease = await keeper.leased()
    assert await keeper.commit(awaiting(lease, name, due_at=due_at)) == ["ok"]
    return lease


@either
async def test_a_run_that_is_not_stored_gets_no_signal(store: Store, *, waiting_only: bool) -> None:
    assert await store.deliver("no such run", "go", b"1", key="k", waiting_only=waiting_only) is None


@either
async def test_i6_a_signal_wakes_the_run_that_waits_for_it(keeper: Keeper, store: Store, *, waiting_only: bool) -> None:
    lease = await waiting(keeper, due_at=NOON + 60 * SECOND)
    answer = await store.deliver(lease.run_id, "go", b"7", key=None, waiting_only=waiting_only)
    assert answer is not None
    assert answer[:3] == Delivered(accepted=True, status="running", woken=True)[:3]
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.awaiting, stored.wake_at) == ("running", None, None)
    (again,) = await keeper.claim("bob")
    assert (again.run_id, again.messages, again.parked_at) == (lease.run_id, 1, 1)
    assert await keeper.messages(again) == [(1, "go", b"7")]


async def test_i6_a_signal_for_a_run_that_does_not_wait_is_kept(keeper: Keeper, store: Store) -> None:
    pending = await keeper.start()
    answer = await store.deliver(pending, "go", b"7", key=None, waiting_only=False)
    assert answer is not None
    assert answer[:3] == Delivered(accepted=True, status="pending", woken=False)[:3]
    (lease,) = await keeper.claim()
    answer = await store.deliver(pending, "go", b"8", key=None, waiting_only=False)
    assert answer is not None
    assert answer[:3] == Delivered(accepted=True, status="running", woken=False)[:3]
    assert await keeper.messages(lease) == [(1, "go", b"7"), (2, "go", b"8")]


async def test_a_resume_of_a_run_that_does_not_wait_changes_nothing(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    keeper.clock.go_on(1)
    before = await keeper.stored(lease.run_id)
    answer = await store.deliver(lease.run_id, "go", b"7", key="k", waiting_only=True)
    assert answer is not None
    assert answer[:3] == Delivered(accepted=False, status="running", woken=False)[:3]
    assert await keeper.stored(lease.run_id) == before
    assert await keeper.messages(lease) == []
    assert await keeper.commit(awaiting(lease, "go")) == ["ok"]
    assert await keeper.resume(lease.run_id, key="k")


@either
async def test_a_signal_of_another_name_wakes_nobody(keeper: Keeper, store: Store, *, waiting_only: bool) -> None:
    lease = await waiting(keeper)
    answer = await store.deliver(lease.run_id, "stop", b"7", key=None, waiting_only=waiting_only)
    assert answer is not None
    assert answer[:3] == Delivered(accepted=not waiting_only, status="suspended", woken=False)[:3]
    assert (await keeper.stored(lease.run_id)).awaiting == "go"
    assert await keeper.claim("bob") == []
    assert await keeper.messages(lease) == ([] if waiting_only else [(1, "stop", b"7")])


async def test_signals_are_kept_in_the_order_they_came_whatever_their_names(keeper: Keeper) -> None:
    lease = await waiting(keeper)
    for number, name in enumerate(["stop", "go", "stop", "go"]):
        await keeper.signal(lease.run_id, name, b"%d" % number)
    assert await keeper.messages(lease) == [(1, "stop", b"0"), (2, "go", b"1"), (3, "stop", b"2"), (4, "go", b"3")]


async def test_i6_of_two_resumes_at_once_one_is_accepted(keeper: Keeper) -> None:
    lease = await waiting(keeper)
    accepted = await asyncio.gather(*(keeper.resume(lease.run_id, "go", b"%d" % number) for number in range(5)))
    assert sorted(accepted) == [False] * 4 + [True]
    assert [value for _, _, value in await keeper.messages(lease)] == [b"%d" % accepted.index(True)]


async def test_i6_a_second_resume_does_not_feed_the_next_wait_for_the_same_name(keeper: Keeper) -> None:
    lease = await waiting(keeper)
    assert await keeper.resume(lease.run_id, "go", b"1")
    assert not await keeper.resume(lease.run_id, "go", b"2")
    (again,) = await keeper.claim("bob")
    assert not await keeper.resume(lease.run_id, "go", b"3")
    used = advance(again, row(again, status="suspended", n=1), consumed=(1,))
    assert await keeper.commit(used, worker_id="bob") == ["ok"]
    park = awaiting(again._replace(seq=1), "go", seen=1)
    assert await keeper.commit(park, worker_id="bob") == ["ok"]
    assert await keeper.messages(again) == []
    assert await keeper.claim("cid") == []
    assert await keeper.resume(lease.run_id, "go", b"4")


async def test_i6_a_run_that_was_claimed_for_nothing_can_still_be_resumed(keeper: Keeper, store: Store) -> None:
    await waiting(keeper, due_at=NOON)
    (again,) = await keeper.claim("bob")
    answer = await store.deliver(again.run_id, "go", b"7", key=None, waiting_only=True)
    assert answer is not None
    assert answer[:3] == Delivered(accepted=True, status="running", woken=False)[:3]
    assert (await keeper.stored(again.run_id)).awaiting is None
    assert await keeper.claim("cid") == []
    assert not await keeper.resume(again.run_id, "go", b"8")
    assert await keeper.commit(awaiting(again, "go"), worker_id="bob") == ["message"]
    assert await keeper.messages(again) == [(1, "go", b"7")]


async def test_i6_a_resume_survives_the_death_of_who_had_claimed_the_run_for_nothing(keeper: Keeper) -> None:
    await waiting(keeper, due_at=NOON)
    (again,) = await keeper.claim("bob")
    assert await keeper.resume(again.run_id, "go", b"7")
    await keeper.crash("bob")
    (third,) = await keeper.claim("cid")
    assert (third.run_id, third.messages, third.parked_at) == (again.run_id, 1, 1)
    assert await keeper.messages(third) == [(1, "go", b"7")]


@pytest.mark.parametrize("status", ["completed", "failed", "canceled"])
async def test_a_run_that_has_ended_accepts_no_signal(keeper: Keeper, store: Store, status: str) -> None:
    lease = await keeper.leased()
    await (store.cancel(lease.run_id) if status == "canceled" else keeper.commit(ended(lease, status=status)))
    before = await keeper.stored(lease.run_id)
    for waiting_only in (False, True):
        answer = await store.deliver(lease.run_id, "go", b"1", key="k", waiting_only=waiting_only)
        assert answer is not None
        assert (answer.accepted, answer.status, answer.woken) == (False, status, False)
    assert await keeper.stored(lease.run_id) == before
    assert await keeper.messages(lease) == []


@either
async def test_i6_a_signal_repeated_with_its_key_is_accepted_and_changes_nothing(
    keeper: Keeper, store: Store, *, waiting_only: bool
) -> None:
    lease = await waiting(keeper)
    assert await keeper.signal(lease.run_id, "go", b"1", key="k")
    for name in ("go", "another name"):
        answer = await store.deliver(lease.run_id, name, b"2", key="k", waiting_only=waiting_only)
        assert answer is not None
        assert answer[:3] == Delivered(accepted=True, status="running", woken=False)[:3]
    assert await keeper.messages(lease) == [(1, "go", b"1")]


async def test_i6_a_key_is_known_after_its_mail_was_used_and_after_the_run_has_ended(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.signal(lease.run_id, "go", b"1", key="k")
    await keeper.commit(advance(lease, row(lease), consumed=(1,)))
    assert await keeper.signal(lease.run_id, "go", b"2", key="k")
    assert await keeper.messages(lease) == []
    await keeper.commit(ended(lease._replace(seq=1)))
    assert await keeper.signal(lease.run_id, "go", b"2", key="k")
    assert await keeper.resume(lease.run_id, "go", b"2", key="k")
    assert not await keeper.signal(lease.run_id, "go", b"2", key="another")


async def test_i6_a_resume_that_was_refused_leaves_its_key_free(keeper: Keeper) -> None:
    lease = await keeper.leased()
    assert not await keeper.resume(lease.run_id, "go", b"1", key="k")
    assert await keeper.signal(lease.run_id, "go", b"2", key="k")
    assert await keeper.messages(lease) == [(1, "go", b"2")]


async def test_i6_of_signals_with_one_key_at_once_one_is_kept(keeper: Keeper) -> None:
    lease = await keeper.leased()
    accepted = await asyncio.gather(*(keeper.signal(lease.run_id, "go", b"%d" % n, key="k") for n in range(5)))
    assert accepted == [True] * 5
    assert len(await keeper.messages(lease)) == 1


async def test_a_key_belongs_to_one_run(keeper: Keeper) -> None:
    one, other = await keeper.leased(), await keeper.leased()
    assert await keeper.signal(one.run_id, key="k")
    assert await keeper.signal(other.run_id, key="k")
    assert len(await keeper.messages(other)) == 1


async def test_i4_a_signal_does_not_make_a_sleeping_or_a_retrying_run_due(keeper: Keeper) -> None:
    lease = await keeper.leased()
    wake_at = NOON + 60 * SECOND
    await keeper.commit(advance(lease, release=True, due_at=wake_at, wake_at=wake_at))
    assert await keeper.signal(lease.run_id)
    assert await keeper.claim("bob") == []
    assert (await keeper.stored(lease.run_id)).wake_at == wake_at
    keeper.clock.go_on(60)
    assert ids(await keeper.claim("bob")) == [lease.run_id]


@either
async def test_the_message_that_holds_a_key_is_told_with_its_time_and_receipt(
    keeper: Keeper, store: Store, *, waiting_only: bool
) -> None:
    lease = await waiting(keeper)
    assert await store.reader.keyed_message(lease.run_id, "k") is None

    answer = await store.deliver(lease.run_id, "go", b"7", key="k", waiting_only=waiting_only, receipt=b'"first"')
    assert answer is not None
    assert answer.accepted
    told = KeyedMessage("go", keeper.clock.wall(), b'"first"')
    assert await store.reader.keyed_message(lease.run_id, "k") == told
    keeper.clock.go_on(SECOND)
    await store.deliver(lease.run_id, "stop", b"8", key="k", waiting_only=waiting_only, receipt=b'"second"')
    assert await store.reader.keyed_message(lease.run_id, "k") == told
    assert await store.reader.keyed_message(lease.run_id, "other") is None
    assert await store.reader.keyed_message("no such run", "k") is None


async def test_the_receipt_of_a_message_stays_when_its_value_was_used(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    await store.deliver(lease.run_id, "go", b"7", key="k", waiting_only=False, receipt=b"1")
    at = keeper.clock.wall()
    used = ended(lease, row(lease))
    used.consumed = [1]
    assert await keeper.commit(used) == ["ok"]
    assert await keeper.messages(lease) == []
    assert await store.reader.keyed_message(lease.run_id, "k") == KeyedMessage("go", at, b"1")


async def test_a_signal_without_a_receipt_has_its_time_alone(keeper: Keeper, store: Store) -> None:
    run_id = await keeper.start()
    assert await keeper.signal(run_id, key="k")
    assert await store.reader.keyed_message(run_id, "k") == KeyedMessage("go", keeper.clock.wall(), None)


async def test_signals_for_many_runs_at_once_keep_their_own_receipts(keeper: Keeper, store: Store) -> None:
    runs = [await keeper.start() for _ in range(5)]
    await asyncio.gather(
        *(
            store.deliver(run_id, "go", b"1", key="k", waiting_only=False, receipt=str(at).encode())
            for at, run_id in enumerate(runs)
        )
    )
    kept = [await store.reader.keyed_message(run_id, "k") for run_id in runs]
    assert [one.receipt for one in kept if one is not None] == [b"0", b"1", b"2", b"3", b"4"]


@either
async def test_i6_a_signal_ends_one_wait_of_several(keeper: Keeper, store: Store, *, waiting_only: bool) -> None:
    lease = await keeper.leased()
    assert await keeper.commit(awaiting(lease, "a", "go", "b-1")) == ["ok"]
    for name, left in (("go", "a b-1"), ("b-1", "a"), ("a", None)):
        answer = await store.deliver(lease.run_id, name, b"7", key=None, waiting_only=waiting_only)
        assert answer is not None
        assert (answer.accepted, answer.status, answer.woken) == (True, "running", True)
        assert (await keeper.stored(lease.run_id)).awaiting == left
        again = await store.deliver(lease.run_id, name, b"8", key=None, waiting_only=True)
        assert again is not None
        assert not again.accepted
    (claimed,) = await keeper.claim("bob")
    assert claimed.run_id == lease.run_id


async def test_i6_no_name_is_taken_for_a_part_of_another(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    await keeper.commit(awaiting(lease, "go", "go-on"))
    for name in ("g", "on", "go go-on", " go", ""):
        answer = await store.deliver(lease.run_id, name, b"7", key=None, waiting_only=True)
        assert answer is not None
        assert not answer.accepted
    assert (await keeper.stored(lease.run_id)).awaiting == "go go-on"


async def test_i6_a_run_on_a_worker_takes_a_signal_that_it_waits_for_and_stays(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    await keeper.commit(advance(lease, awaiting=("go", "stop"), absent=(MessageName("signal", "go"),)))
    answer = await store.deliver(lease.run_id, "go", b"7", key=None, waiting_only=True)
    assert answer is not None
    assert answer[:3] == Delivered(accepted=True, status="running", woken=False)[:3]
    stored = await keeper.stored(lease.run_id)
    assert (stored.awaiting, stored.worker, stored.due_at) == ("stop", "ann", stored.due_at)
    assert await keeper.claim("bob") == []
