"""Which commits on a server have the other processes told: those that make something due, or end somebody's wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell.runtime.system import SystemRuntime
from stepwell.store.postgres.store import PostgresStore
from stepwell.store.records import AT_ONCE, Changes
from tests.conformance.keeper import KINDS, Keeper, advance, awaiting, end_of_child, ended, parked, step
from tests.moving_clock import MovingClock
from tests.postgres import fresh_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stepwell.store.records import Advance, Lease, NewRun


@pytest.fixture
async def keeper() -> AsyncIterator[Keeper]:
    """An open store on a server, without runs."""
    store = PostgresStore(fresh_url(), SystemRuntime())
    await store.migrate()
    await store.open()
    keeper = Keeper(store, MovingClock(), KINDS["postgres"])
    yield keeper
    for heartbeat_connection in keeper.heartbeat_connections.values():
        heartbeat_connection.close()
    await store.close()


@pytest.mark.parametrize(
    ("made", "is_told"),
    [
        (lambda lease, new, parent: ended(lease), True),
        (lambda lease, new, parent: ended(lease, child_end=end_of_child(parent)), True),
        (lambda lease, new, parent: parked(lease, spawned=(new,)), True),
        (lambda lease, new, parent: advance(lease, release=True, due_at=AT_ONCE), True),
        (lambda lease, new, parent: step(lease, lean=True), False),
        (lambda lease, new, parent: awaiting(lease, "go"), False),
    ],
    ids=["an end", "the end of a child", "a new child", "a run given back", "a step", "a wait"],
)
async def test_i4_a_commit_that_concerns_others_has_them_told_and_no_other(
    keeper: Keeper,
    monkeypatch: pytest.MonkeyPatch,
    made: Callable[[Lease, NewRun, Lease], Advance],
    *,
    is_told: bool,
) -> None:
    parent = await keeper.leased()
    lease = await keeper.leased(parent_id=parent.run_id, parent_node="child")
    new = await keeper.new(parent_id=lease.run_id, parent_node="child")
    notified: list[Changes] = []
    monkeypatch.setattr("stepwell.store.postgres.notifier.Notifier.notify", lambda _, changes: notified.append(changes))
    assert await keeper.commit(made(lease, new, parent)) == ["ok"]
    assert bool(notified) == is_told


async def test_i4_a_signal_that_wakes_its_run_has_others_told(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = await keeper.leased()
    await keeper.commit(awaiting(lease, "go"))
    notified: list[Changes] = []
    monkeypatch.setattr("stepwell.store.postgres.notifier.Notifier.notify", lambda _, changes: notified.append(changes))
    await keeper.signal(lease.run_id, "other")
    assert not notified
    await keeper.signal(lease.run_id, "go")
    assert notified
