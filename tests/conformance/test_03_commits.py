"""Commits: each advance is applied once and by the owner alone, and a stale one harms nobody in its batch."""

from __future__ import annotations

import pytest

from tests.conformance.keeper import Keeper, advance, awaiting, ended, grown, ids, parked, row, step
from tests.moving_clock import NOON, SECOND

both_statements = pytest.mark.parametrize("lean", [False, True])


@both_statements
async def test_a_committed_advance_is_in_the_journal_and_moves_the_run(keeper: Keeper, *, lean: bool) -> None:
    lease = await keeper.leased()
    keeper.clock.go_on(3)
    assert await keeper.commit(advance(lease, row(lease), row(lease, 2), lean=lean)) == ["ok"]
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.position, stored.updated_at) == ("running", 2, NOON + 3 * SECOND)
    assert await keeper.nodes(lease.run_id) == ["step1", "step2"]
    assert await keeper.claim("bob") == []


@both_statements
async def test_i1_a_repeated_commit_is_done_and_journaled_once(keeper: Keeper, *, lean: bool) -> None:
    lease = await keeper.leased()
    first = advance(lease, row(lease), row(lease, 2), lean=lean)
    assert await keeper.commit(first) == ["ok"]
    assert await keeper.commit(first) == ["done"]
    assert await keeper.commit(first) == ["done"]
    assert await keeper.nodes(lease.run_id) == ["step1", "step2"]
    assert await keeper.commit(step(grown(lease, 2), lean=lean)) == ["ok"]


@both_statements
async def test_i1_of_a_repeated_batch_nothing_is_applied_twice(keeper: Keeper, *, lean: bool) -> None:
    leases = [await keeper.leased() for _ in range(5)]
    batch = [step(lease, lean=lean) for lease in leases]
    assert await keeper.commit(*batch) == ["ok"] * 5
    fresh = await keeper.leased()
    assert await keeper.commit(*batch, step(fresh, lean=lean)) == ["done"] * 5 + ["ok"]
    for lease in [*leases, fresh]:
        assert await keeper.nodes(lease.run_id) == ["step1"]


@both_statements
async def test_i1_a_commit_that_arrives_after_its_retry_and_the_next_one_is_lost(keeper: Keeper, *, lean: bool) -> None:
    lease = await keeper.leased()
    first, second = step(lease, lean=lean), step(grown(lease), lean=lean)
    assert await keeper.commit(first) == ["ok"]
    assert await keeper.commit(first) == ["done"]
    assert await keeper.commit(second) == ["ok"]
    before = await keeper.snapshot(lease.run_id)
    assert await keeper.commit(first) == ["lost"]
    assert await keeper.snapshot(lease.run_id) == before
    assert await keeper.commit(step(grown(lease, 2))) == ["ok"]


@both_statements
async def test_i1_what_lets_go_of_a_run_is_not_done_by_what_kept_it(keeper: Keeper, *, lean: bool) -> None:
    """It is as long as what is stored, and is not what is stored: taken as done, it would leave the run to nobody."""
    lease = await keeper.leased()
    assert await keeper.commit(step(lease, lean=lean)) == ["ok"]
    before = await keeper.snapshot(lease.run_id)
    assert await keeper.commit(parked(lease, row(lease))) == ["lost"]
    assert await keeper.commit(ended(lease, row(lease))) == ["lost"]
    assert await keeper.snapshot(lease.run_id) == before
    assert await keeper.commit(parked(grown(lease), row(lease, 2))) == ["ok"]
    assert await keeper.commit(step(grown(lease), lean=lean)) == ["lost"]


async def test_i6_a_park_that_arrives_after_its_retry_and_a_signal_is_lost(keeper: Keeper) -> None:
    lease = await keeper.leased()
    park = awaiting(lease, "go")
    assert await keeper.commit(park) == ["ok"]
    assert await keeper.signal(lease.run_id, "go", b"7")
    assert await keeper.commit(park) == ["lost"]
    assert (await keeper.stored(lease.run_id)).awaiting is None
    (again,) = await keeper.claim("bob")
    assert await keeper.commit(park) == ["lost"]
    assert await keeper.messages(again) == [(1, "go", b"7")]


async def test_i6_a_park_with_rows_that_arrives_again_does_not_park_a_run_that_was_woken(keeper: Keeper) -> None:
    lease = await keeper.leased()
    park = awaiting(lease, "go")
    park.rows = [row(lease)]
    assert await keeper.commit(park) == ["ok"]
    assert await keeper.resume(lease.run_id)
    assert await keeper.commit(park) == ["done"]
    assert await keeper.nodes(lease.run_id) == ["step1"]
    assert ids(await keeper.claim("bob")) == [lease.run_id]


@both_statements
async def test_i3_a_commit_under_an_older_token_is_lost(keeper: Keeper, *, lean: bool) -> None:
    lease = await keeper.leased()
    await keeper.crash("ann")
    (again,) = await keeper.claim("ann")
    assert again.token > lease.token
    assert await keeper.commit(step(lease, lean=lean)) == ["lost"]
    assert await keeper.nodes(lease.run_id) == []
    assert await keeper.commit(step(again, lean=lean)) == ["ok"]


@both_statements
async def test_i3_a_commit_of_another_worker_is_lost(keeper: Keeper, *, lean: bool) -> None:
    lease = await keeper.leased()
    await keeper.worker("bob")
    assert await keeper.commit(step(lease, lean=lean), worker_id="bob") == ["lost"]
    assert await keeper.commit(ended(lease), worker_id="bob") == ["lost"]
    assert await keeper.nodes(lease.run_id) == []


@both_statements
@pytest.mark.parametrize("length", [0, 3])
async def test_i1_a_commit_that_extends_another_length_is_lost(keeper: Keeper, length: int, *, lean: bool) -> None:
    lease = await keeper.leased()
    await keeper.commit(advance(lease, row(lease), row(lease, 2), lean=lean))
    assert await keeper.commit(advance(grown(lease, length), row(lease, 9), lean=lean)) == ["lost"]
    assert await keeper.nodes(lease.run_id) == ["step1", "step2"]


@both_statements
async def test_i9_a_commit_after_a_cancel_is_lost(keeper: Keeper, *, lean: bool) -> None:
    lease = await keeper.leased()
    await keeper.store.cancel(lease.run_id)
    assert await keeper.commit(step(lease, lean=lean)) == ["lost"]
    assert await keeper.commit(ended(lease, row(lease))) == ["lost"]
    assert (await keeper.stored(lease.run_id)).status == "canceled"
    assert await keeper.nodes(lease.run_id) == []


async def test_a_commit_for_a_run_that_is_not_stored_is_lost(keeper: Keeper) -> None:
    lease = await keeper.leased()
    unknown = lease._replace(run_id="no such run", ref=lease.ref + 1_000)
    assert await keeper.commit(step(unknown), step(lease)) == ["lost", "ok"]
    assert await keeper.store.reader.journal("no such run") is None


async def test_i3_one_stale_advance_stops_none_of_the_others_in_its_batch(keeper: Keeper) -> None:
    stale = await keeper.leased()
    await keeper.crash("ann")
    (owned,) = await keeper.claim("bob")
    runs = [await keeper.leased() for _ in range(300)]
    batch = [step(lease, lean=number % 2 == 0) for number, lease in enumerate(runs)]
    batch.insert(150, step(stale, lean=True))
    verdicts = await keeper.commit(*batch)
    assert verdicts[150] == "lost"
    assert verdicts[:150] + verdicts[151:] == ["ok"] * 300
    assert await keeper.nodes(stale.run_id) == []
    for lease in runs:
        assert await keeper.nodes(lease.run_id) == ["step1"]
    assert await keeper.commit(step(owned), worker_id="bob") == ["ok"]


async def test_every_verdict_stands_in_the_place_of_its_advance(keeper: Keeper) -> None:
    good, repeated, late, surprised, canceled = [await keeper.leased() for _ in range(5)]
    await keeper.commit(step(repeated))
    await keeper.commit(advance(late, row(late), row(late, 2)))
    await keeper.signal(surprised.run_id)
    await keeper.store.cancel(canceled.run_id)
    advances = [step(canceled), awaiting(surprised, "go"), step(good), step(late), step(repeated)]
    assert await keeper.commit(*advances) == ["lost", "message", "ok", "lost", "done"]
    assert await keeper.commit(*reversed(advances)) == ["done", "lost", "done", "message", "lost"]


async def test_a_batch_of_more_runs_than_any_statement_takes_is_applied_whole(keeper: Keeper) -> None:
    await keeper.store.start([await keeper.new() for _ in range(700)])
    leases = await keeper.claim()
    assert await keeper.commit(*(step(lease, lean=True) for lease in leases)) == ["ok"] * 700
    assert await keeper.commit(*(ended(grown(lease), row(lease, 2)) for lease in leases)) == ["ok"] * 700
    assert len(await keeper.listed(status="completed")) == 700
    assert await keeper.nodes(leases[-1].run_id) == ["step1", "step2"]


async def test_an_empty_batch_is_applied(keeper: Keeper) -> None:
    assert await keeper.commit() == []


async def test_i1_an_outcome_that_is_journaled_already_is_refused_loudly_and_costs_its_batch(keeper: Keeper) -> None:
    twice, other = await keeper.leased(), await keeper.leased()
    await keeper.commit(step(twice))
    again = grown(twice)
    bad = advance(again, row(again, node="step1"))
    with pytest.raises(keeper.refusals):
        await keeper.commit(step(other), bad)
    assert await keeper.nodes(other.run_id) == []
    assert await keeper.commit(step(other)) == ["ok"]
    with pytest.raises(keeper.refusals):
        await keeper.commit(bad)
    assert await keeper.commit(step(again)) == ["ok"]


async def test_the_order_of_the_journal_is_not_that_of_any_clock(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.commit(advance(lease, row(lease, finished_at=900), row(lease, 2, finished_at=500)))
    keeper.clock.go_on(-3600)
    await keeper.commit(advance(grown(lease, 2), row(lease, 3, finished_at=100)))
    assert await keeper.nodes(lease.run_id) == ["step1", "step2", "step3"]


async def test_i4_a_run_that_sleeps_is_due_when_its_time_has_come(keeper: Keeper) -> None:
    lease = await keeper.leased()
    wake_at = NOON + 60 * SECOND
    sleep = advance(lease, row(lease), release=True, due_at=wake_at, wake_at=wake_at, parked_at=NOON)
    assert await keeper.commit(sleep) == ["ok"]
    stored = await keeper.stored(lease.run_id)
    assert (stored.status, stored.wake_at, stored.awaiting) == ("running", wake_at, None)
    assert await keeper.claim("bob") == []
    keeper.clock.go_on(60)
    (again,) = await keeper.claim("bob")
    assert (again.wake_at, again.parked_at, again.seq) == (wake_at, NOON, 1)


@both_statements
async def test_what_a_run_waited_for_is_gone_with_its_next_row(keeper: Keeper, *, lean: bool) -> None:
    lease = await keeper.leased()
    await keeper.commit(advance(lease, release=True, due_at=NOON, wake_at=NOON, parked_at=NOON))
    (again,) = await keeper.claim("bob")
    await keeper.commit(step(again, lean=lean), worker_id="bob")
    await keeper.crash("bob")
    (third,) = await keeper.claim("cid")
    assert (third.wake_at, third.parked_at) == (None, None)


async def test_a_run_that_is_given_back_goes_to_whoever_asks(keeper: Keeper) -> None:
    lease = await keeper.leased()
    assert await keeper.commit(advance(lease, row(lease), release=True, due_at=NOON)) == ["ok"]
    (again,) = await keeper.claim("bob")
    assert (again.run_id, again.seq) == (lease.run_id, 1)
    assert again.token > lease.token


async def test_a_release_that_is_repeated_is_done_and_takes_the_run_from_nobody(keeper: Keeper) -> None:
    lease = await keeper.leased()
    release = advance(lease, row(lease), release=True, due_at=NOON)
    await keeper.commit(release)
    assert await keeper.commit(release) == ["done"]
    (again,) = await keeper.claim("ann")
    assert await keeper.commit(release) == ["lost"]
    assert await keeper.commit(step(again)) == ["ok"]


async def test_a_run_that_has_ended_stays_so(keeper: Keeper) -> None:
    completed, failed = await keeper.leased(), await keeper.leased()
    keeper.clock.go_on(5)
    assert await keeper.commit(ended(completed, row(completed)), ended(failed, status="failed")) == ["ok", "ok"]
    for lease, status in ((completed, "completed"), (failed, "failed")):
        stored = await keeper.stored(lease.run_id)
        assert (stored.status, stored.finished_at) == (status, NOON + 5 * SECOND)
        assert await keeper.commit(step(grown(lease, 1))) == ["lost"]
    keeper.clock.go_on(10_000)
    assert await keeper.claim("bob") == []
    assert await keeper.store.sweep() == 0


async def test_a_row_of_the_journal_ends_the_blame_for_crashes(keeper: Keeper) -> None:
    for lean in (False, True):
        lease = await keeper.leased()
        await keeper.crash("ann")
        (again,) = await keeper.claim("ann")
        assert again.crashes == 1
        await keeper.commit(step(again, lean=lean))
        await keeper.crash("ann")
        (third,) = await keeper.claim("ann")
        assert (third.run_id, third.crashes) == (lease.run_id, 1)
        await keeper.commit(ended(third))


async def test_a_park_without_a_row_leaves_the_blame_for_crashes(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.crash("ann")
    (again,) = await keeper.claim("ann")
    await keeper.commit(advance(again, release=True, due_at=NOON))
    (third,) = await keeper.claim("bob")
    assert (third.run_id, third.crashes) == (lease.run_id, 1)


async def test_a_run_keeps_its_status_while_it_compensates(keeper: Keeper) -> None:
    lease = await keeper.leased()
    await keeper.commit(advance(lease, row(lease, status="failed", value=None), status="compensating"))
    assert (await keeper.stored(lease.run_id)).status == "compensating"
    await keeper.commit(advance(grown(lease), row(lease, 2, phase="undo"), status="compensating", lean=True))
    await keeper.crash("ann")
    (again,) = await keeper.claim("bob")
    assert (again.status, again.seq) == ("compensating", 2)
    wait = parked(again, status="compensating", due_at=NOON)
    assert await keeper.commit(wait, worker_id="bob") == ["ok"]
    assert (await keeper.stored(lease.run_id)).status == "compensating"
