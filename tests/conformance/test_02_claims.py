"""Claims: what is due goes to one worker, oldest first, within limits; what is loaded then is the whole past."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from stepwell.core.journal import item_of
from stepwell.core.mailbox import Message, MessageName
from stepwell.core.needed import Needed
from stepwell.errors import Failure
from stepwell.store.records import AT_ONCE, CLAIM_BYTES, Found, History, Wanted
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
    step,
)
from tests.moving_clock import NOON, SECOND

if TYPE_CHECKING:
    from stepwell.store.protocol import Store

GO = MessageName("signal", "go")


async def crashed_twice(keeper: Keeper, runs: int) -> list[str]:
    """Runs that have crashed two workers, and are suspects now."""
    run_ids = [await keeper.start() for _ in range(runs)]
    for worker_id in ("first", "second"):
        assert len(await keeper.claim(worker_id)) == runs
        await keeper.crash(worker_id)
    return run_ids


async def test_what_was_due_first_is_claimed_first(keeper: Keeper) -> None:
    late, early, middle = [await keeper.start(delay=delay * SECOND) for delay in (3, 1, 2)]
    keeper.clock.go_on(5)
    assert ids(await keeper.claim()) == [early, middle, late]


async def test_a_claim_takes_at_most_its_limit_and_leaves_the_rest_to_the_next(keeper: Keeper) -> None:
    run_ids = [await keeper.start() for _ in range(5)]
    assert ids(await keeper.claim(limit=3)) == run_ids[:3]
    assert ids(await keeper.claim("bob", limit=3)) == run_ids[3:]
    assert await keeper.claim("bob") == []


async def test_the_limit_holds_over_all_lanes_together(keeper: Keeper, store: Store) -> None:
    for workflow in ("order", "refund"):
        for _ in range(3):
            await keeper.start(workflow=workflow)
    lanes = [await keeper.lane("order"), await keeper.lane("refund")]
    worker_id = await keeper.worker()
    assert len((await store.claim(worker_id, lanes, 4, 1)).leases) == 4
    assert len((await store.claim(worker_id, lanes, 4, 1)).leases) == 2


async def test_a_worker_gets_runs_of_its_own_lanes_alone(keeper: Keeper, store: Store) -> None:
    await keeper.start(workflow="unknown here")
    run_id = await keeper.start(workflow="refund")
    assert await keeper.claim(workflow="order") == []
    assert ids(await keeper.claim(workflow="refund")) == [run_id]
    assert (await store.claim("ann", [], EVERY, EVERY)).leases == []


async def test_i3_workers_that_claim_at_once_share_no_run(keeper: Keeper) -> None:
    run_ids = [await keeper.start() for _ in range(40)]
    workers = [await keeper.worker(f"worker{number}") for number in range(4)]
    claims = await asyncio.gather(*(keeper.claim(worker, limit=15) for worker in workers))
    claimed = [run_id for leases in claims for run_id in ids(leases)]
    assert sorted(claimed) == sorted(run_ids)


async def test_a_claimed_run_runs_and_its_lease_tells_all_that_a_commit_must_name(keeper: Keeper) -> None:
    run_id = await keeper.start(value=b'{"id":1}')
    (lease,) = await keeper.claim()
    assert (lease.run_id, lease.seq, lease.messages, lease.crashes) == (run_id, 0, 0, 0)
    assert (lease.lane, lease.status, lease.value) == (await keeper.lane(), "running", b'{"id":1}')
    assert (lease.wake_at, lease.parked_at) == (None, None)
    assert (lease.parent_id, lease.parent_node) == (None, None)
    assert (await keeper.stored(run_id)).status == "running"


async def test_i3_each_owner_has_another_token(keeper: Keeper) -> None:
    lease = await keeper.leased()
    tokens = [lease.token]
    for before, worker_id in (("ann", "bob"), ("bob", "cid")):
        await keeper.crash(before)
        (again,) = await keeper.claim(worker_id)
        tokens.append(again.token)
    assert sorted(set(tokens)) == tokens


async def test_i4_a_worker_that_is_not_enlisted_claims_nothing_and_is_told(keeper: Keeper, store: Store) -> None:
    run_id = await keeper.start()
    claimed = await store.claim("nobody", [await keeper.lane()], EVERY, EVERY)
    assert (claimed.leases, claimed.alive) == ([], False)
    assert ids(await keeper.claim("ann")) == [run_id]


async def test_i4_a_declared_dead_worker_claims_nothing_and_is_told(keeper: Keeper, store: Store) -> None:
    run_id = await keeper.start()
    await keeper.worker("ann")
    await store.expire("ann", None)
    claimed = await store.claim("ann", [await keeper.lane()], EVERY, EVERY)
    assert (claimed.leases, claimed.alive) == ([], False)
    assert ids(await keeper.claim("bob")) == [run_id]


async def test_an_empty_claim_tells_how_long_until_something_is_due(keeper: Keeper, store: Store) -> None:
    worker_id, lanes = await keeper.worker(), [await keeper.lane()]
    claimed = await store.claim(worker_id, lanes, EVERY, EVERY)
    assert (claimed.leases, claimed.now, claimed.next_due_in, claimed.alive) == ([], NOON, None, True)
    await keeper.start(delay=90 * SECOND)
    await keeper.start(delay=60 * SECOND)
    await keeper.start(delay=5 * SECOND, workflow="unknown here")
    keeper.clock.go_on(20)
    claimed = await store.claim(worker_id, lanes, EVERY, EVERY)
    assert (claimed.now, claimed.next_due_in) == (NOON + 20 * SECOND, 40 * SECOND)


async def test_a_claim_that_got_something_has_to_ask_again_for_the_next_timer(keeper: Keeper, store: Store) -> None:
    await keeper.start()
    claimed = await store.claim(await keeper.worker(), [await keeper.lane()], EVERY, EVERY)
    assert (len(claimed.leases), claimed.next_due_in) == (1, 0)


async def test_a_suspect_without_room_for_it_makes_no_worker_ask_at_once_again(keeper: Keeper, store: Store) -> None:
    await crashed_twice(keeper, 1)
    claimed = await store.claim(await keeper.worker(), [await keeper.lane()], EVERY, 0)
    assert (claimed.leases, claimed.next_due_in) == ([], None)


async def test_of_runs_that_crashed_twice_a_claim_takes_only_as_many_as_it_has_room_for(keeper: Keeper) -> None:
    suspects = await crashed_twice(keeper, 3)
    healthy = [await keeper.start() for _ in range(3)]
    assert sorted(ids(await keeper.claim(suspects=0, limit=2))) == healthy[:2]
    claimed = await keeper.claim("bob", suspects=1)
    assert sorted(ids(claimed)) == sorted([suspects[0], healthy[2]])
    assert {lease.run_id: lease.crashes for lease in claimed} == {suspects[0]: 2, healthy[2]: 0}
    assert ids(await keeper.claim("cid", suspects=EVERY)) == suspects[1:]


async def test_suspects_count_in_the_limit_of_a_claim(keeper: Keeper) -> None:
    await crashed_twice(keeper, 3)
    for _ in range(3):
        await keeper.start()
    assert len(await keeper.claim(limit=2, suspects=EVERY)) == 2
    assert len(await keeper.claim(limit=2, suspects=1)) == 2


async def test_a_run_that_crashed_once_is_no_suspect(keeper: Keeper) -> None:
    await keeper.start()
    await keeper.claim("first")
    await keeper.crash("first")
    (lease,) = await keeper.claim(suspects=0)
    assert lease.crashes == 1


async def test_a_claim_for_nothing_leaves_what_the_run_waits_for(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.commit(awaiting(lease, "go", due_at=NOON + SECOND))
    keeper.clock.go_on(2)
    (again,) = await keeper.claim()
    assert (again.status, again.wake_at, again.parked_at) == ("suspended", NOON + SECOND, 1)
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.awaiting) == ("suspended", "go")
    await keeper.crash("ann")
    (third,) = await keeper.claim("bob")
    assert third.status == "suspended"


async def test_a_run_whose_time_has_not_come_or_that_has_ended_is_not_claimed(keeper: Keeper) -> None:
    asleep, waiting, over = [await keeper.leased() for _ in range(3)]
    await keeper.commit(
        advance(asleep, release=True, due_at=NOON + SECOND, wake_at=NOON + SECOND), parked(waiting), ended(over)
    )
    assert await keeper.claim() == []
    keeper.clock.go_on(1)
    assert ids(await keeper.claim()) == [asleep.run_id]


async def test_the_journal_is_loaded_as_it_was_committed_in_order(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    rows = [
        row(
            lease, 1, n=1, status="retrying", value=None, error=Failure("a", "E", "m", "tb"), retry_at=7, finished_at=9
        ),
        row(lease, 2, node="step1", attempt=2, value=b'{"a":[1,"\xc3\xbc"]}', detail=b"end", finished_at=5),
        row(lease, 3, node="turns", item="#1", phase="undo", kind="compensate", value=None, finished_at=1),
    ]
    assert await keeper.commit(advance(lease, *rows)) == ["ok"]
    history = (await store.load([Wanted(lease, GO)]))[lease.run_id]
    assert (history.rows, history.found) == (rows, Found((GO,), 0, ()))


async def test_of_a_node_whose_last_outcome_is_enough_that_and_what_follows_is_loaded(
    keeper: Keeper, store: Store
) -> None:
    lease, fresh, other = await keeper.leased(), await keeper.leased(), await keeper.leased()
    failed = {"n": 1, "status": "retrying", "value": None, "error": Failure("poll", "E", "m"), "retry_at": 7}
    rows = [row(lease, 1, node="before", **failed), row(lease, 2, node="before", attempt=2)]
    for iteration in range(1, 13):
        item = item_of(iteration)
        rows += [
            row(lease, len(rows) + 1, node="poll", item=item, **failed),
            row(lease, len(rows) + 2, node="poll", item=item, attempt=2, detail=b"next 0 -"),
        ]
    rows.append(row(lease, len(rows) + 1, node="poll", item=item_of(13), **failed))
    asked = row(fresh, 1, node="poll", **failed)
    assert await keeper.commit(advance(lease, *rows), advance(fresh, asked)) == ["ok", "ok"]
    needed = Needed(("before", "after"), ("poll",))
    histories = await store.load([Wanted(lease, None, needed), Wanted(fresh, GO, needed), Wanted(other)])
    assert histories[lease.run_id] == History([*rows[:2], *rows[-2:]], Found((), 0, ()), ("poll",))
    assert histories[fresh.run_id] == History([asked], Found((GO,), 0, ()), ("poll",))
    assert histories[other.run_id] == History([], Found((), 0, ()))


async def test_the_first_unread_message_of_the_name_alone_is_loaded(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    child = await keeper.leased(parent_id=lease.run_id, parent_node="child")
    for number in range(3):
        await keeper.signal(lease.run_id, "go", b"%d" % number)
    await keeper.commit(ended(child, child_end=end_of_child(lease, error=Failure("child", "ChildFailed", "why"))))
    await keeper.commit(advance(lease, row(lease), consumed=(2,)))
    end = Message(4, "child", "child", None, Failure("child", "ChildFailed", "why"), child.run_id)
    for name, messages in (
        (GO, [Message(1, "signal", "go", b"0", None), Message(3, "signal", "go", b"2", None)]),
        (MessageName("child", "child"), [end]),
        (MessageName("signal", "child"), []),
        (MessageName("signal", "other"), []),
    ):
        history = (await store.load([Wanted(lease, name)]))[lease.run_id]
        assert history.found == Found((name,), 4, tuple(messages[:1]))
        after = 0
        for message in [*messages, None]:
            found = () if message is None else (message,)
            assert await store.find_messages(lease, {name: after}) == Found((name,), 4, found)
            after = 0 if message is None else message.n
    assert (await store.load([Wanted(lease)]))[lease.run_id].found == Found((), 4, ())


async def test_the_first_message_of_each_of_several_names_is_found_behind_its_own_number(
    keeper: Keeper, store: Store
) -> None:
    lease = await keeper.leased()
    for number, name in enumerate(("go", "stop", "go", "other"), 1):
        await keeper.signal(lease.run_id, name, b"%d" % number)
    names = [MessageName("signal", name) for name in ("go", "stop", "none")]
    found = await store.find_messages(lease, dict(zip(names, (1, 0, 0), strict=True)))
    assert (found.names, found.messages) == (tuple(names), 4)
    assert sorted(found.found) == [Message(2, "signal", "stop", b"2", None), Message(3, "signal", "go", b"3", None)]


async def test_i6_a_signal_between_claim_and_load_is_in_what_is_loaded(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    await keeper.signal(lease.run_id, "go", b"7")
    history = (await store.load([Wanted(lease, GO)]))[lease.run_id]
    assert (lease.messages, history.found) == (0, Found((GO,), 1, (Message(1, "signal", "go", b"7", None),)))


async def test_many_runs_are_loaded_at_once(keeper: Keeper, store: Store) -> None:
    for _ in range(20):
        await keeper.start()
    leases = await keeper.claim()
    await keeper.commit(*(step(lease) for lease in leases[::2]))
    histories = await store.load([Wanted(lease) for lease in leases])
    assert [len(histories[lease.run_id].rows) for lease in leases] == [1, 0] * 10


@pytest.mark.parametrize("lean", [False, True])
async def test_the_next_claim_knows_the_length_of_the_journal(keeper: Keeper, *, lean: bool) -> None:
    lease = await keeper.leased()
    await keeper.commit(advance(lease, row(lease), row(lease, 2), lean=lean))
    await keeper.crash("ann")
    (again,) = await keeper.claim("bob")
    assert again.seq == 2
    assert await keeper.commit(step(again, lean=lean), worker_id="bob") == ["ok"]
    assert await keeper.commit(step(grown(again), lean=lean), worker_id="bob") == ["ok"]


async def test_what_is_due_at_once_is_due_however_far_the_clock_is_set_back_and_in_its_order(keeper: Keeper) -> None:
    crashed, given_back = [await keeper.leased() for _ in range(2)]
    await keeper.crash("ann")
    before = [await keeper.start() for _ in range(2)]
    keeper.clock.go_on(-3600)
    after = await keeper.start()
    claimed = await keeper.claim("bob")
    assert ids(claimed) == [crashed.run_id, given_back.run_id, *before, after]


async def test_what_is_given_back_goes_behind_what_is_due_whatever_the_clock_says(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased()
    waiting = await keeper.start()
    await store.give_back("ann", {lease.run_id: lease.token})
    keeper.clock.go_on(-3600)
    other = await keeper.start()
    assert ids(await keeper.claim("bob")) == [waiting, lease.run_id, other]


async def test_a_run_that_lets_others_in_is_due_behind_them_whatever_the_clock_says(keeper: Keeper) -> None:
    lease = await keeper.leased()
    waiting = await keeper.start()
    keeper.clock.go_on(-3600)
    assert await keeper.commit(advance(lease, release=True, due_at=AT_ONCE)) == ["ok"]
    assert ids(await keeper.claim("bob")) == [waiting, lease.run_id]


async def test_a_timer_is_over_by_the_clock_alone(keeper: Keeper) -> None:
    late = await keeper.start(delay=60 * SECOND)
    keeper.clock.go_on(-3600)
    keeper.clock.go_on(3600 + 59)
    assert await keeper.claim() == []
    keeper.clock.go_on(1)
    assert ids(await keeper.claim()) == [late]


@pytest.mark.parametrize("timers_first", [False, True])
@pytest.mark.parametrize("limit", [1, 4, 5])
async def test_neither_what_is_due_at_once_nor_timers_that_are_over_starve_the_others(
    keeper: Keeper, store: Store, limit: int, *, timers_first: bool
) -> None:
    timers = [await keeper.start(delay=SECOND) for _ in range(8)]
    at_once = [await keeper.start() for _ in range(8)]
    keeper.clock.go_on(10)
    worker_id, lanes = await keeper.worker(), [await keeper.lane()]
    claimed = set(ids((await store.claim(worker_id, lanes, limit, 1, timers_first=timers_first)).leases))
    most, least = -(-limit // 2), limit // 2
    assert claimed & set(timers) == set(timers[: most if timers_first else least])
    assert claimed & set(at_once) == set(at_once[: least if timers_first else most])


async def test_one_kind_alone_has_all_the_room_of_a_claim(keeper: Keeper) -> None:
    timers = [await keeper.start(delay=SECOND) for _ in range(5)]
    keeper.clock.go_on(10)
    one = await keeper.start()
    assert sorted(ids(await keeper.claim(limit=5))) == sorted([one, *timers[:4]])


async def test_a_claim_ends_where_its_inputs_would_be_too_large_and_says_so(keeper: Keeper, store: Store) -> None:
    large = b'"%b"' % (b"x" * 998)
    run_ids = [await keeper.start(value=large) for _ in range(5)]
    worker_id, lanes = await keeper.worker(), [await keeper.lane()]
    claimed = await store.claim(worker_id, lanes, EVERY, 1, most_bytes=3_500)
    assert (ids(claimed.leases), claimed.cut) == (run_ids[:3], True)
    assert [lease.value for lease in claimed.leases] == [large] * 3
    claimed = await store.claim(worker_id, lanes, EVERY, 1, most_bytes=3_500)
    assert (ids(claimed.leases), claimed.cut) == (run_ids[3:], False)


async def test_a_run_whose_input_is_larger_than_a_claim_is_claimed_alone(keeper: Keeper, store: Store) -> None:
    run_ids = [await keeper.start(value=b'"%b"' % (b"x" * 998)) for _ in range(2)]
    worker_id, lanes = await keeper.worker(), [await keeper.lane()]
    for run_id in run_ids:
        claimed = await store.claim(worker_id, lanes, EVERY, 1, most_bytes=10)
        assert ids(claimed.leases) == [run_id]


async def test_a_claim_gives_inputs_of_four_megabytes_at_the_most(keeper: Keeper) -> None:
    half = b'"%b"' % (b'\\"' * (CLAIM_BYTES // 4 - 1))
    run_ids = [await keeper.start(value=half) for _ in range(3)]
    claimed = await keeper.claim()
    assert [(lease.run_id, lease.value) for lease in claimed] == [(run_id, half) for run_id in run_ids[:2]]
    assert ids(await keeper.claim("bob")) == run_ids[2:]


async def test_a_run_that_crashed_three_times_comes_as_the_only_suspect_and_after_the_others(keeper: Keeper) -> None:
    first, *others = await crashed_twice(keeper, 3)
    assert ids(await keeper.claim("third", suspects=1)) == [first]
    await keeper.crash("third")
    assert sorted(ids(await keeper.claim("ann", suspects=3))) == sorted(others)
    worker_id, lanes = await keeper.worker("bob"), [await keeper.lane()]
    assert (await keeper.store.claim(worker_id, lanes, EVERY, 3, worst=False)).leases == []
    (lease,) = await keeper.claim("bob", suspects=3)
    assert (lease.run_id, lease.crashes) == (first, 3)


async def test_a_load_gives_the_first_runs_whose_journals_fit_and_one_at_least(keeper: Keeper, store: Store) -> None:
    for _ in range(4):
        await keeper.start()
    leases = await keeper.claim()
    await keeper.commit(*(advance(lease, row(lease, value=b'"%b"' % (b"x" * 998))) for lease in leases))
    wanted = [Wanted(lease) for lease in leases]
    assert list(await store.load(wanted, 2_500)) == ids(leases[:2])
    assert list(await store.load(wanted[2:], 10)) == ids(leases[2:3])
    assert list(await store.load(wanted)) == ids(leases)
