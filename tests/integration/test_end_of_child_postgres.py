"""Batches on PostgreSQL with the end of a child, while somebody else's transaction holds rows of its tree."""

from __future__ import annotations

import asyncio

from stepwell.runtime.system import SystemRuntime
from stepwell.store.records import Definition, Lane, NewRun
from tests.conformance.keeper import end_of_child, ended, parked, row, step
from tests.plans import telling


async def test_i8_the_end_of_a_child_whose_parent_is_held_is_busy_and_reaches_it_later() -> None:
    """Dropped, it would leave the parent waiting for ever."""
    async with telling() as (store, _, plain):
        (lane,) = await store.define([Definition(Lane("durable", "flow", "v1"), b"[]")])
        parent_id, child_id = (SystemRuntime().new_id() for _ in range(2))
        await store.start([NewRun(parent_id, lane, "flow", b"1")])
        heartbeat_connection = await store.enlist("ann", "here")
        (parent,) = (await store.claim("ann", [lane], 1, 0)).leases
        child = NewRun(child_id, lane, "flow", b"1", parent_id=parent_id, parent_node="child")
        assert await store.commit("ann", [parked(parent, spawned=[child])]) == ["ok"]
        (leased,) = (await store.claim("ann", [lane], 1, 0)).leases
        end = ended(leased, row(leased), child_end=end_of_child(parent))
        schema = store._location.schema
        async with plain.transaction():
            await plain.execute(f'SELECT 1 FROM "{schema}".runs WHERE id = $1 FOR UPDATE', parent_id)
            assert await store.commit("ann", [end]) == ["busy"]
        assert await store.commit("ann", [end]) == ["ok"]
        heartbeat_connection.close()
        found = await plain.fetch(f'SELECT kind, name FROM "{schema}".mailbox WHERE run_id = $1', parent_id)
        assert [tuple(each) for each in found] == [("child", "child")]


async def test_i9_a_batch_waits_for_no_row_that_a_cancel_holds() -> None:
    """A cancel locks a tree in the order of ids, a batch in that of its plan: each would wait for the other."""
    async with telling() as (store, _, plain):
        (lane,) = await store.define([Definition(Lane("durable", "flow", "v1"), b"[]")])
        new = [NewRun(SystemRuntime().new_id(), lane, "flow", b"1") for _ in range(3)]
        await store.start([new[0], new[1]._replace(parent_id=new[0].run_id, parent_node="child"), new[2]])
        heartbeat_connection = await store.enlist("ann", "here")
        parent, child, other = (await store.claim("ann", [lane], 3, 0)).leases
        batch = [ended(child, child_end=end_of_child(parent)), step(other)]
        async with plain.transaction():
            locks = f'SELECT 1 FROM "{store._location.schema}".runs WHERE id = ANY($1::uuid[]) FOR NO KEY UPDATE'
            await plain.execute(locks, [parent.run_id, child.run_id])
            async with asyncio.timeout(5):
                assert await store.commit("ann", batch) == ["busy", "ok"]
        assert await store.commit("ann", [batch[0]]) == ["ok"]
        heartbeat_connection.close()
