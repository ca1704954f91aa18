"""The end of a child on PostgreSQL, while somebody else's transaction holds the row of its parent."""

from __future__ import annotations

from stepwell.engine.runtime import SystemRuntime
from stepwell.store.protocol import Definition, Lane, NewRun
from tests.conformance.keeper import end_of_child, ended, parked, row
from tests.plans import telling


async def test_i8_the_end_of_a_child_whose_parent_is_held_is_busy_and_reaches_it_later() -> None:
    """Dropped, it would leave the parent waiting for ever."""
    async with telling() as (store, _, plain):
        (lane,) = await store.define([Definition(Lane("durable", "flow", "v1"), b"[]")])
        parent_id, child_id = (SystemRuntime().new_id() for _ in range(2))
        await store.start([NewRun(parent_id, lane, "flow", b"1")])
        heart = await store.enlist("ann", "here")
        (parent,) = (await store.claim("ann", [lane], 1, 0)).leases
        child = NewRun(child_id, lane, "flow", b"1", parent_id=parent_id, parent_node="child")
        assert await store.commit("ann", [parked(parent, spawned=[child])]) == ["ok"]
        (leased,) = (await store.claim("ann", [lane], 1, 0)).leases
        end = ended(leased, row(leased), post=end_of_child(parent))
        schema = store._location.schema
        async with plain.transaction():
            await plain.execute(f'SELECT 1 FROM "{schema}".runs WHERE id = $1 FOR UPDATE', parent_id)
            assert await store.commit("ann", [end]) == ["busy"]
        assert await store.commit("ann", [end]) == ["ok"]
        heart.close()
        found = await plain.fetch(f'SELECT kind, name FROM "{schema}".mailbox WHERE run_id = $1', parent_id)
        assert [tuple(each) for each in found] == [("child", "child")]
