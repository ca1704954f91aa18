"""What a write on PostgreSQL tells the other processes: in which lanes runs became due, and that runs ended."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from stepwell.store.postgres.location import location_of
from tests.conformance.keeper import awaiting, end_of_child, ended, parked, row, usual
from tests.postgres import dsn, fresh_url
from tests.rival import keeper_of
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stepwell.store.records import Lease
    from tests.conformance.keeper import Keeper


@pytest.fixture
def url() -> str:
    """A store that only this test uses."""
    return fresh_url()


class Listener:
    """A connection that hears what a store tells."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(self, *notification: object) -> None:
        """A notification arrives."""
        self._heard.put_nowait(str(notification[-1]))

    async def next(self) -> str:
        """The next one."""
        async with asyncio.timeout(PATIENCE):
            return await self._heard.get()


@asynccontextmanager
async def listener_of(url: str) -> AsyncIterator[Listener]:
    """A store, and what hears it; the store has told already that it connected."""
    async with keeper_of(url) as keeper:
        connection = await asyncpg.connect(dsn())
        try:
            listener = Listener(keeper)
            await connection.add_listener(f"stepwell:{location_of(url).schema}", listener.hear)
            await keeper.store.reader.changed()
            assert await listener.next() == ""
            yield listener
        finally:
            await connection.close()


async def leased(listener: Listener, workflow: str = "order") -> Lease:
    """A claimed run, whose start was heard."""
    lease = await listener.keeper.leased(workflow=workflow)
    assert await listener.next() == str(lease.lane)
    return lease


async def test_a_start_names_its_lane(url: str) -> None:
    async with listener_of(url) as listener:
        one, other = await leased(listener), await leased(listener, "other")
        assert one.lane != other.lane


async def test_the_end_of_a_run_makes_no_worker_look(url: str) -> None:
    async with listener_of(url) as listener:
        one, other = await leased(listener), await leased(listener)
        await listener.keeper.commit(usual(one, ends=True))
        assert await listener.next() == "ended"
        await listener.keeper.commit(ended(other, row(other)))
        assert await listener.next() == "ended"


async def test_i4_the_end_of_a_child_names_the_lane_of_its_parent(url: str) -> None:
    async with listener_of(url) as listener:
        keeper = listener.keeper
        parent = await leased(listener)
        child = await keeper.new(workflow="item", parent_id=parent.run_id, parent_node="child")
        await keeper.commit(parked(parent, spawned=[child]))
        assert await listener.next() == str(child.lane)
        (lease,) = await keeper.claim(workflow="item")
        await keeper.commit(ended(lease, row(lease), child_end=end_of_child(parent)))
        assert await listener.next() == f"ended {parent.lane}"


async def test_i4_a_run_that_is_due_again_names_its_lane_and_one_that_waits_for_a_signal_does_so_when_it_comes(
    url: str,
) -> None:
    async with listener_of(url) as listener:
        sleeping, waiting = await leased(listener, "item"), await leased(listener)
        await listener.keeper.commit(awaiting(waiting, "go"))
        await listener.keeper.commit(parked(sleeping, due_at=1))
        assert await listener.next() == str(sleeping.lane)
        await listener.keeper.signal(waiting.run_id)
        assert await listener.next() == str(waiting.lane)
