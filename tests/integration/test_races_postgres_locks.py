"""Rows on PostgreSQL that somebody holds, keys that two write at once, and a queue of notifications that is full."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stepwell import DefinitionError, Durable, durable
from stepwell.core.mailbox import MessageName
from stepwell.store.postgres.sql import columns
from stepwell.store.postgres.store import PostgresStore
from tests.api.handlers import nothing
from tests.conformance.keeper import awaiting
from tests.faulty import faulty_app
from tests.gates import Gate
from tests.postgres import Server, fresh_url
from tests.proxy import Proxy
from tests.rival import Rival, deadlocks_in, keeper_of, own_database, queries_of, rival_of, statements
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell.store.records import NewRun

MANY = 256
FULL_AT = 64
"""Pages of notifications; a server has room for no fewer."""


@pytest.fixture
def url() -> Iterator[str]:
    """An empty store in a database of its own."""
    with own_database() as url:
        yield url


async def test_i4_a_transaction_of_somebody_that_has_signalled_a_run_stops_neither_the_others_nor_the_beat() -> None:
    """Of a full batch one run is passed over until they commit; the rest goes on, and nobody waits for a lock."""
    url, gate = fresh_url(), Gate()
    app, faulty = faulty_app(url, [durable("flow").step("work", gate.handler).step("last", nothing)], lease=1)
    async with app, rival_of(url) as rival, app.worker(concurrency=MANY) as worker:
        held, *others = [each.run_id for each in await app.start_many("flow", range(MANY))]
        await gate.entered(MANY)
        async with rival.connection.transaction():
            await rival.signal(held, "go", b"1")
            gate.let()

            async def all_others_have() -> bool:
                return len(await app.list(status="completed", limit=MANY)) == len(others)

            await eventually(all_others_have)
            before = await rival.value("SELECT beat_at FROM stepwell.workers")

            async def has_beaten() -> bool:
                return bool(await rival.value("SELECT beat_at > $1 FROM stepwell.workers", before))

            await eventually(has_beaten)
            assert "busy" in faulty.verdicts_on(held)
            assert await app.journal(held) == []
        await app.result(held, timeout=PATIENCE)
        assert {crashes for _, _, crashes in await rival.owners()} == {0}
        assert [row.worker_id for row in await app._store.workers()] == [worker.worker_id]
    assert set(gate.calls.values()) == {1}


@pytest.mark.parametrize("first", ["is committed", "is rolled back"])
async def test_i10_a_start_waits_for_another_with_its_key_that_is_not_committed_yet(url: str, first: str) -> None:
    async with keeper_of(url) as keeper, rival_of(url) as rival:
        mine, theirs = [await keeper.new(key="key") for _ in range(2)]
        transaction = rival.connection.transaction()
        await transaction.start()
        await rival.execute(*queries_of(url)("add_runs", n=written(theirs)))
        starting = asyncio.create_task(keeper.store.start([mine]))
        await rival.until_waiting()
        await (transaction.commit() if first == "is committed" else transaction.rollback())
        (started,) = await starting
        assert started.run_id == (theirs if first == "is committed" else mine).run_id
        assert await keeper.listed() == [started.run_id]


async def test_i10_starts_of_the_same_keys_in_opposite_orders_are_in_no_deadlock(url: str) -> None:
    """Somebody holds the key in the middle, so that both have written what they could when they go on."""
    async with keeper_of(url) as keeper, rival_of(url) as rival:
        runs = [[await keeper.new(key=key) for key in keys] for keys in ("amz", "zma")]
        transaction = rival.connection.transaction()
        await transaction.start()
        await rival.execute(*queries_of(url)("add_runs", n=written(await keeper.new(key="m"))))
        starting = [asyncio.create_task(keeper.store.start(some)) for some in runs]
        await rival.until_waiting(2)
        await transaction.rollback()
        one, other = await asyncio.gather(*starting)
        assert {each.run_id for each in one} == {each.run_id for each in other}
        assert len(await keeper.listed()) == 3
    assert await deadlocks_in(url) == 0


def written(run: NewRun) -> list[Any]:
    """What `add_runs` is given for a run."""
    return columns([(run.run_id, run.lane, run.workflow, run.key, 0, None, None, run.value)], 8)


@pytest.mark.parametrize(("ending", "crashes"), [("retires", 0), ("is buried", 1)])
async def test_i4_a_run_that_was_locked_when_its_worker_ended_is_freed_later_and_not_blamed(
    url: str, ending: str, crashes: int
) -> None:
    async with keeper_of(url) as keeper, rival_of(url) as rival:
        held, other = [await keeper.leased() for _ in range(2)]
        async with rival.connection.transaction():
            await rival.signal(held.run_id, "go", b"1")
            if ending == "retires":
                await keeper.store.retire("ann")
            else:
                assert await keeper.store.expire("ann", None) == 1
            assert [row.dead for row in await keeper.store.workers()] == [True]
        assert await keeper.store.expire("ann", None) == 1
        assert await keeper.store.workers() == []
        blamed = {lease.run_id: lease.crashes for lease in await keeper.claim("bob")}
    assert blamed == {held.run_id: 0, other.run_id: crashes}


async def test_i3_a_burial_that_waits_for_a_beat_to_be_committed_buries_nobody(url: str) -> None:
    async with keeper_of(url) as keeper, rival_of(url) as rival:
        lease = await keeper.leased()
        await rival.execute("UPDATE stepwell.workers SET beat_at = 0")
        async with rival.connection.transaction():
            await rival.execute(*queries_of(url)("beat", worker="ann"))
            burying = asyncio.create_task(keeper.store.expire("ann", 60_000_000))
            await rival.until_waiting()
        assert await burying is None
        assert await rival.owners() == [("ann", lease.token, 0)]
        assert keeper.heartbeat_connections["ann"].beat() == {lease.run_id: lease.token}


async def test_i3_a_beat_that_waits_for_a_burial_to_be_committed_hears_of_it(url: str) -> None:
    async with keeper_of(url) as keeper, rival_of(url) as rival:
        lease = await keeper.leased()
        await rival.execute("UPDATE stepwell.workers SET beat_at = 0")
        async with rival.connection.transaction():
            await rival.fetch(*queries_of(url)("free_crashed", worker="ann", silent_for=60_000_000))
            beating = asyncio.create_task(asyncio.to_thread(keeper.heartbeat_connections["ann"].beat))
            claiming = asyncio.create_task(keeper.claim())
            await rival.until_waiting(2)
        assert await beating is None
        assert await claiming == []
        assert [(token, crashes) for _, token, crashes in await rival.owners()] == [(lease.token + 1, 1)]


async def test_i4_a_judge_that_stops_in_the_middle_of_a_burial_keeps_nobody_else_from_it(url: str) -> None:
    async with Proxy(url) as proxy, keeper_of(url) as keeper, keeper_of(proxy.url(url)) as stopped:
        await keeper.leased()
        last = proxy.hold(statements(url)["free_crashed"])
        burying = asyncio.create_task(stopped.store.expire("ann", None))
        await last.reached()
        assert await asyncio.wait_for(keeper.store.expire("ann", None), PATIENCE) == 1
        last.release()
        assert await burying is None


async def talk_for_ever(talker: Rival, length: int) -> None:
    while True:
        await talker.execute("SELECT pg_notify('news', repeat('x', $1))", length)


async def test_i7_commits_go_on_when_the_queue_of_notifications_is_full() -> None:
    """Somebody listens, and hears nothing: the server keeps all that was said for them, until it has no room."""
    with Server(fsync=False, settings={"max_notify_queue_pages": str(FULL_AT)}) as server:
        async with rival_of(server.dsn) as deaf, rival_of(server.dsn) as talker:
            await deaf.connection.add_listener("news", lambda *_: None)
            async with deaf.connection.transaction():
                for length in (7000, 0):
                    with pytest.raises(asyncpg.ProgramLimitExceededError, match="NOTIFY queue"):
                        await talk_for_ever(talker, length)
                gate = Gate()
                gate.let()
                flow = durable("flow").step("work", gate.handler).wait_for_signal("wait", "go")
                async with Durable(server.dsn, [flow]) as app, Durable(server.dsn) as other, app.worker():
                    run_id = (await app.start("flow")).run_id
                    await gate.entered()
                    assert (await other.signal(run_id, "go", 7)).accepted
                    assert (await other.result(run_id, timeout=PATIENCE))["wait"] == 7


async def test_a_connection_for_notifications_that_is_given_up_half_made_is_closed(url: str) -> None:
    async with Proxy(url) as proxy, keeper_of(proxy.url(url)) as keeper:
        before = proxy.connections
        listening = proxy.hold("LISTEN")
        looking = asyncio.create_task(keeper.store.reader.changed())
        await listening.reached()
        looking.cancel()
        await asyncio.wait({looking})
        listening.release()
        await eventually(lambda: proxy.connections == before)


@pytest.mark.parametrize("name", ["go", "other"])
async def test_i6_a_message_that_the_snapshot_of_a_park_lacks_refuses_it(url: str, name: str) -> None:
    """The park's statement has its snapshot and then waits; what is committed meanwhile is counted, and not there."""
    async with keeper_of(url) as keeper, rival_of(url) as rival:
        lease = await keeper.leased()
        # A worker without a number would get one, and its statement be made again, with another snapshot.
        await rival.execute("INSERT INTO stepwell.names (name) VALUES ('ann')")
        store = keeper.store
        assert isinstance(store, PostgresStore)
        change = store._q.statements["change"]
        locking = "(SELECT id FROM b UNION ALL SELECT parent_id FROM ends))"
        assert change.sql.count(locking) == 1
        gated = f"{locking} AND (SELECT pg_advisory_xact_lock_shared(7)) IS NOT NULL"
        store._q.statements["change"] = change._replace(sql=change.sql.replace(locking, gated))
        await rival.execute("SELECT pg_advisory_lock(7)")
        parking = asyncio.create_task(keeper.commit(awaiting(lease, "go", seen=0)))
        await rival.until_waiting()
        await rival.signal(lease.run_id, name, b"7")
        await rival.execute("SELECT pg_advisory_unlock(7)")
        assert await parking == ["message"]
        found = await store.find_messages(lease, {MessageName("signal", "go"): 0})
        assert (found.messages, bool(found.found)) == (1, name == "go")
        assert await keeper.commit(awaiting(lease, "go", seen=1)) == ["ok"]


async def test_i6_a_signal_for_a_run_that_is_held_holds_up_no_other_and_keeps_its_place(url: str) -> None:
    """Those that arrive together share a statement, which waits for no lock; what is behind a held one stays behind."""
    async with keeper_of(url) as keeper, rival_of(url) as rival:
        held, *others = [await keeper.leased() for _ in range(4)]
        async with rival.connection.transaction():
            await rival.execute("SELECT 1 FROM stepwell.runs WHERE id = $1 FOR UPDATE", held.run_id)
            waiting = [asyncio.create_task(keeper.signal(held.run_id, value=b"%d" % n)) for n in range(3)]
            assert all(await asyncio.gather(*(keeper.signal(other.run_id) for other in others)))
            await rival.until_waiting()
            assert all(await asyncio.gather(*(keeper.signal(other.run_id, "more") for other in others)))
            assert not any(task.done() for task in waiting)
        assert all(await asyncio.gather(*waiting))
        assert [value for _, _, value in await keeper.messages(held)] == [b"0", b"1", b"2"]


async def test_i6_signals_that_share_a_statement_are_answered_each_for_its_run(url: str) -> None:
    async with keeper_of(url) as keeper:
        plain, waits, gone = [await keeper.leased() for _ in range(3)]
        await keeper.commit(awaiting(waits, "go"))
        await keeper.store.cancel(gone.run_id)
        await keeper.signal(plain.run_id, key="once")
        unknown = keeper.clock.new_id()
        asked = [
            keeper.store.deliver(plain.run_id, "go", b"2", key="once", waiting_only=False),
            keeper.store.deliver(waits.run_id, "go", b"3", key=None, waiting_only=True),
            keeper.store.deliver(gone.run_id, "go", b"4", key=None, waiting_only=False),
            keeper.store.deliver(unknown, "go", b"5", key=None, waiting_only=False),
            keeper.store.deliver(plain.run_id, "stop", b"6", key=None, waiting_only=True),
        ]
        answers = [
            None if found is None else (found.accepted, found.status, found.woken)
            for found in await asyncio.gather(*asked)
        ]
        assert answers == [
            (True, "running", False),
            (True, "running", True),
            (False, "canceled", False),
            None,
            (False, "running", False),
        ]
        assert [value for _, _, value in await keeper.messages(plain)] == [b"1"]


async def test_a_signal_that_the_database_cannot_keep_costs_those_beside_it_nothing(url: str) -> None:
    async with keeper_of(url) as keeper:
        one, other = [await keeper.leased() for _ in range(2)]
        bad, good = await asyncio.gather(
            keeper.signal(one.run_id, "nul \0"), keeper.signal(other.run_id), return_exceptions=True
        )
        assert (type(bad), good) == (DefinitionError, True)
