"""Cancels of trees on PostgreSQL beside spawns, ends, signals, other cancels and somebody's transaction.

`STEPWELL_RACE_ROUNDS` is how many rounds of all of them at once are run, 1000 for the long form.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from typing import TYPE_CHECKING

import asyncpg
import pytest

from stepwell import Context, Durable, RunFailedError, durable
from stepwell.store.codec import PLAIN
from stepwell.store.postgres.commit import commit
from stepwell.store.records import ChildEnd, Filter, NewRun
from tests.conformance.keeper import awaiting_child, ended, ids, parked
from tests.gates import Gate
from tests.postgres import fresh_url
from tests.proxy import Proxy
from tests.rival import deadlocks_in, keeper_of, own_database, queries_of, rival_of, statements
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepwell.store.protocol import Store
    from stepwell.store.records import Lease
    from tests.conformance.keeper import Keeper

_log = logging.getLogger(__name__)
ROUNDS = int(os.environ.get("STEPWELL_RACE_ROUNDS", "30"))
SEED = 20_260
WIDTH = 3
MANY = 200
"""Children of each run of a tree, on three levels."""


@pytest.fixture
def url() -> Iterator[str]:
    """An empty store in a database of its own."""
    with own_database() as url:
        yield url


async def child_of(keeper: Keeper, parent: Lease) -> NewRun:
    """A child of a run, not spawned yet."""
    return await keeper.new(parent_id=parent.run_id, parent_node="child")


async def statuses(keeper: Keeper) -> set[str]:
    """The statuses of all runs."""
    everything = Filter(None, None, None, None, 100 * ROUNDS, None)
    return {run.status for run in (await keeper.store.reader.page(everything)).runs}


@pytest.mark.parametrize("spawner", ["the root", "a child"])
async def test_i9_a_cancel_that_waits_for_a_spawn_to_be_committed_cancels_the_new_run_too(
    url: str, spawner: str
) -> None:
    async with keeper_of(url) as keeper, rival_of(url) as rival:
        root = parent = await keeper.leased()
        if spawner == "a child":
            await keeper.commit(parked(root, spawned=[await child_of(keeper, root)]))
            (parent,) = await keeper.claim()
        spawn = parked(parent, spawned=[await child_of(keeper, parent)])
        transaction = rival.connection.transaction()
        await transaction.start()
        verdicts, lanes = await commit(rival.connection, queries_of(url), PLAIN, "ann", [spawn])
        assert verdicts == ["ok"]
        assert lanes == {root.lane}
        canceling = asyncio.create_task(keeper.store.cancel(root.run_id))
        await rival.until_waiting()
        await transaction.commit()
        assert len(await canceling or []) == (2 if spawner == "the root" else 3)
        assert await statuses(keeper) == {"canceled"}
        assert await keeper.claim("bob") == []


async def test_i9_a_tree_that_grows_while_it_is_being_locked_is_looked_through_anew(url: str) -> None:
    """A child comes before the tree is locked. Then it is locked too, and can have no child of its own any more."""
    async with Proxy(url) as proxy, keeper_of(url) as keeper, keeper_of(proxy.url(url)) as other:
        root = await keeper.leased()
        child = await child_of(keeper, root)
        locking = proxy.hold(statements(url)["lock_tree"])
        canceling = asyncio.create_task(other.store.cancel(root.run_id))
        await locking.reached()
        assert await keeper.commit(parked(root, spawned=[child])) == ["ok"]
        (parent,) = await keeper.claim()
        spawn = parked(parent, spawned=[await child_of(keeper, parent)])
        ending = proxy.hold(statements(url)["cancel"])
        locking.release()
        await ending.reached()
        assert await keeper.commit(spawn) == ["busy"]
        ending.release()
        assert sorted(await canceling or []) == sorted([root.run_id, child.run_id])
        assert await keeper.commit(spawn) == ["lost"]
        assert await statuses(keeper) == {"canceled"}


async def test_i4_a_parent_that_is_parking_when_its_child_is_canceled_hears_of_it(url: str) -> None:
    """The cancel holds the parent from before it looks on; the parent's park is passed over, and then refused."""
    async with Proxy(url) as proxy, keeper_of(url) as keeper, keeper_of(proxy.url(url)) as other:
        parent = await keeper.leased()
        child = await keeper.leased("bob", parent_id=parent.run_id, parent_node="child")
        ending = proxy.hold(statements(url)["cancel"])
        canceling = asyncio.create_task(other.store.cancel(child.run_id))
        await ending.reached()
        assert await keeper.commit(awaiting_child(parent)) == ["busy"]
        ending.release()
        assert await canceling == [child.run_id]
        assert await keeper.commit(awaiting_child(parent)) == ["message"]
        assert [name for _, name, _ in await keeper.messages(parent)] == ["child"]


async def test_i4_a_parent_whose_child_is_canceled_by_another_process_fails_and_compensates() -> None:
    gate, url, undone = Gate(), fresh_url(), list[str]()

    async def first(ctx: Context) -> None:
        pass

    async def undo(ctx: Context) -> None:
        undone.append(ctx.step)

    root = durable("root").step("first", first, compensate=undo).child_workflow("child", "leaf")
    leaf = durable("leaf").step("work", gate.handler)
    async with Durable(url, [root, leaf]) as app, Durable(url) as other, app.worker() as worker:
        run_id = (await app.start("root")).run_id
        await gate.entered()
        (child,) = (await other.status(run_id)).children or ()
        await other.cancel(child.run_id)
        with pytest.raises(RunFailedError) as caught:
            await app.result(run_id, timeout=PATIENCE)
        assert await app.journal(child.run_id) == []
        await eventually(lambda: worker._worker_session.held == 0)
    assert (caught.value.error.node, caught.value.error.type) == ("child", "ChildCanceled")
    assert undone == ["first"]


@pytest.mark.parametrize("victim", ["the cancel", "their transaction"])
async def test_i9_somebodys_transaction_that_locks_a_tree_upwards_leaves_nothing_half_done(victim: str) -> None:
    """It signals the child and then the root: a deadlock with a cancel. A cancel repeats itself; theirs is theirs."""
    cancel_looks, they_look = ("2s", "1min") if victim == "the cancel" else ("1min", "10ms")
    with own_database(cancel_looks) as url:
        async with keeper_of(url) as keeper, rival_of(url) as rival:
            root = await keeper.leased()
            await keeper.commit(parked(root, spawned=[await child_of(keeper, root)]))
            (child,) = await keeper.claim()
            await rival.execute(f"SET deadlock_timeout = '{they_look}'")
            transaction = rival.connection.transaction()
            await transaction.start()
            await rival.signal(child.run_id, "go", b"1")
            canceling = asyncio.create_task(keeper.store.cancel(root.run_id))
            await rival.until_waiting()
            if victim == "the cancel":
                await rival.signal(root.run_id, "go", b"1")
                await transaction.commit()
            else:
                with pytest.raises(asyncpg.DeadlockDetectedError):
                    await rival.signal(root.run_id, "go", b"1")
                await transaction.rollback()
            assert sorted(await canceling or []) == sorted(ids([root, child]))
            assert await statuses(keeper) == {"canceled"}
            messages = await rival.value("SELECT count(*) FROM stepwell.mailbox")
        assert messages == (2 if victim == "the cancel" else 0)
        assert await deadlocks_in(url) == 1


async def test_i9_somebodys_transaction_that_locks_a_tree_downwards_is_in_no_deadlock(url: str) -> None:
    async with keeper_of(url) as keeper, rival_of(url) as rival:
        root = await keeper.leased()
        await keeper.commit(parked(root, spawned=[await child_of(keeper, root)]))
        (child,) = await keeper.claim()
        async with rival.connection.transaction():
            await rival.signal(root.run_id, "go", b"1")
            canceling = asyncio.create_task(keeper.store.cancel(root.run_id))
            await rival.until_waiting()
            await rival.signal(child.run_id, "go", b"1")
        assert sorted(await canceling or []) == sorted(ids([root, child]))
        assert await statuses(keeper) == {"canceled"}
    assert await deadlocks_in(url) == 0


async def test_i9_a_cancel_that_waits_for_the_first_run_of_a_tree_holds_none_of_the_others(url: str) -> None:
    """All that lock several runs do so by their ids, so that none of two that meet holds what the other waits for."""
    async with keeper_of(url) as keeper, rival_of(url) as rival, rival_of(url) as third:
        root = await keeper.start()
        leaves = [await keeper.new(parent_id=root, parent_node="child") for _ in range(MANY)]
        await keeper.store.start(leaves)
        async with rival.connection.transaction():
            await rival.execute("SELECT 1 FROM stepwell.runs WHERE id = $1 FOR NO KEY UPDATE", root)
            canceling = asyncio.create_task(keeper.store.cancel(root))
            await rival.until_waiting()
            free = await third.fetch("SELECT id FROM stepwell.runs FOR NO KEY UPDATE SKIP LOCKED")
        assert len(free) == MANY
        assert len(await canceling or []) == 1 + MANY


async def test_i9_cancels_batches_and_signals_on_one_tree_are_in_no_deadlock(url: str) -> None:
    """A tree of three levels a round, its leaves ended by two workers while it is canceled from two of its runs."""
    dice = random.Random(SEED)
    async with keeper_of(url) as keeper, keeper_of(url) as other:
        for worker, of in (("ann", keeper), ("bob", other)):
            await of.worker(worker)
        slowest = 0.0
        for _ in range(ROUNDS):
            slowest = max(slowest, await one_round(keeper, other, dice))
        assert await statuses(keeper) <= {"completed", "canceled"}
    assert await deadlocks_in(url) == 0
    _log.info("%d rounds; the slowest commit took %.0f ms", ROUNDS, 1000 * slowest)


async def one_round(keeper: Keeper, other: Keeper, dice: random.Random) -> float:
    """Plants a tree, and has everything happen to it at once; the longest that a commit took, in seconds."""
    root, *middles = runs = await planted(keeper, dice)
    await keeper.commit(*[parked(lease) for lease in await keeper.claim("ann", workflow="trunk")])
    anns, bobs = await keeper.claim("ann", workflow="ann"), await other.claim("bob", workflow="bob")
    signalled = dice.choices(runs, k=4)
    acts = [
        keeper.store.cancel(root.run_id),
        other.store.cancel(dice.choice(middles[:WIDTH]).run_id),
        *(of.signal(run.run_id) for of, run in zip((keeper, other) * 2, signalled, strict=True)),
    ]
    dice.shuffle(acts)
    first, second, *_ = await asyncio.gather(
        all_ended(keeper.store, "ann", anns, dice), all_ended(other.store, "bob", bobs, dice), *acts
    )
    longest: float = max(first, second)
    return longest


async def planted(keeper: Keeper, dice: random.Random) -> list[NewRun]:
    """A started tree: its root, the children of that, and theirs, each for one of two workers."""
    kinds = {workflow: await keeper.new(workflow=workflow) for workflow in ("trunk", "ann", "bob")}

    def one(workflow: str, parent: NewRun | None) -> NewRun:
        parent_id = None if parent is None else parent.run_id
        return kinds[workflow]._replace(run_id=keeper.clock.new_id(), parent_id=parent_id, parent_node="child")

    root = one("trunk", None)
    middles = [one("trunk", root) for _ in range(WIDTH)]
    leaves = [one(dice.choice(["ann", "bob"]), middle) for middle in middles for _ in range(WIDTH)]
    await keeper.store.start([root, *middles, *leaves])
    return [root, *middles, *leaves]


async def all_ended(store: Store, worker_id: str, leases: Sequence[Lease], dice: random.Random) -> float:
    """Ends runs in one batch, and again those that were busy; the longest that a commit took, in seconds."""
    loop, slowest = asyncio.get_running_loop(), 0.0
    ends = [
        ended(one, child_end=ChildEnd(one.parent_id, "child", b"1", None))
        for one in leases
        if one.parent_id is not None
    ]
    dice.shuffle(ends)
    while ends:
        begun = loop.time()
        verdicts = await store.commit(worker_id, ends)
        slowest = max(slowest, loop.time() - begun)
        ends = [end for end, verdict in zip(ends, verdicts, strict=True) if verdict == "busy"]
    return slowest
