"""Lanes are numbered once, and a run is written once, whatever is asked again and by whom."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from stepwell.errors import DefinitionError
from stepwell.store.records import Definition, Lane, Started
from tests.conformance.keeper import OUTLINE, Keeper, ended, ids
from tests.moving_clock import NOON, SECOND

if TYPE_CHECKING:
    from stepwell.store.protocol import Store


def definition(queue: str = "durable", workflow: str = "order", fingerprint: str = "v1") -> Definition:
    return Definition(Lane(queue, workflow, fingerprint), OUTLINE)


async def test_migrating_again_changes_nothing(keeper: Keeper, store: Store) -> None:
    run_id = await keeper.start()
    await asyncio.gather(store.migrate(), store.migrate())
    assert await store.schema() == (store.latest, ())
    assert (await keeper.stored(run_id)).status == "pending"


async def test_the_same_lane_has_the_same_number_whoever_asks(store: Store) -> None:
    first, second = await store.define([definition("a"), definition("b")])
    assert await store.define([definition("b"), definition("a")]) == [second, first]


async def test_queue_workflow_and_version_each_make_another_lane(store: Store) -> None:
    lanes = [definition(), definition(queue="b"), definition(workflow="c"), definition(fingerprint="v2")]
    assert len(set(await store.define(lanes))) == 4


async def test_known_and_unknown_lanes_come_in_the_order_asked(store: Store) -> None:
    (known,) = await store.define([definition("b")])
    numbers = await store.define([definition("a"), definition("b"), definition("c")])
    assert numbers[1] == known
    assert len(set(numbers)) == 3
    assert await store.define([definition("a"), definition("b"), definition("c")]) == numbers


async def test_two_that_define_a_lane_at_once_get_one_number(store: Store) -> None:
    one, other = await asyncio.gather(store.define([definition()]), store.define([definition()]))
    assert one == other


async def test_a_started_run_is_pending_and_due_at_once(keeper: Keeper, store: Store) -> None:
    new = await keeper.new(value=b'{"id":42}')
    assert await store.start([new]) == [Started(new.run_id, "pending")]
    stored = await keeper.stored(new.run_id)
    assert (stored.status, stored.position, stored.value, stored.wake_at) == ("pending", 0, b'{"id":42}', None)
    assert (stored.created_at, stored.updated_at, stored.finished_at) == (NOON, NOON, None)
    assert ids(await keeper.claim()) == [new.run_id]


async def test_a_start_whose_answer_was_lost_is_repeated_without_a_second_run(keeper: Keeper, store: Store) -> None:
    new = await keeper.new(value=b"1")
    await store.start([new])
    assert [started.run_id for started in await store.start([new])] == [new.run_id]
    assert await keeper.listed() == [new.run_id]
    assert (await keeper.stored(new.run_id)).value == b"1"


async def test_i10_a_start_with_a_key_whose_answer_was_lost_can_be_repeated(keeper: Keeper, store: Store) -> None:
    new = await keeper.new(key="k", value=b"1")
    await store.start([new])
    await keeper.claim()
    assert await store.start([new]) == [Started(new.run_id, "running")]
    assert await keeper.listed() == [new.run_id]


async def test_a_repeated_start_of_which_some_runs_are_new_writes_those_with_their_inputs(
    keeper: Keeper, store: Store
) -> None:
    news = [await keeper.new(value=b"%d" % number) for number in range(5)]
    await store.start(news[1:3])
    await store.start(news)
    assert sorted(await keeper.listed()) == sorted(new.run_id for new in news)
    for new in news:
        assert (await keeper.stored(new.run_id)).value == new.value
    assert {lease.run_id: lease.value for lease in await keeper.claim()} == {new.run_id: new.value for new in news}


async def test_i10_the_same_key_gives_the_first_run_as_it_stands(keeper: Keeper, store: Store) -> None:
    lease = await keeper.leased(key="k")
    assert await store.start([await keeper.new(key="k")]) == [Started(lease.run_id, "running", lease.value)]
    await keeper.commit(ended(lease))
    assert await store.start([await keeper.new(key="k")]) == [Started(lease.run_id, "completed", lease.value)]
    assert await keeper.listed() == [lease.run_id]


async def test_i10_a_key_that_comes_twice_in_one_start_is_one_run(keeper: Keeper, store: Store) -> None:
    news = [await keeper.new(key=key) for key in ("a", "b", "a", None, None)]
    started = [each.run_id for each in await store.start(news)]
    assert started == [news[0].run_id, news[1].run_id, news[0].run_id, news[3].run_id, news[4].run_id]
    assert len(await keeper.listed()) == 4


async def test_the_same_key_in_another_workflow_is_another_run(keeper: Keeper) -> None:
    assert await keeper.start(key="k") != await keeper.start(key="k", workflow="refund")


async def test_i10_two_starts_with_one_key_at_once_give_one_run(keeper: Keeper, store: Store) -> None:
    news = [await keeper.new(key="k") for _ in range(8)]
    answers = await asyncio.gather(*(store.start([new]) for new in news))
    assert len({started.run_id for (started,) in answers}) == 1
    assert len(await keeper.listed()) == 1


async def test_i10_starts_of_the_same_keys_in_opposite_orders_agree(keeper: Keeper, store: Store) -> None:
    keys = [f"k{number}" for number in range(20)]
    up = [await keeper.new(key=key) for key in keys]
    down = [await keeper.new(key=key) for key in reversed(keys)]
    first, second = await asyncio.gather(store.start(up), store.start(down))
    assert [each.run_id for each in first] == [each.run_id for each in reversed(second)]
    assert len(await keeper.listed()) == 20


async def test_of_a_start_that_the_store_cannot_keep_nothing_is_written(keeper: Keeper, store: Store) -> None:
    good, bad = await keeper.new(), await keeper.new(value=cast("Any", None))
    with pytest.raises(DefinitionError):
        await store.start([good, bad])
    assert await keeper.listed() == []
    assert await keeper.claim() == []


async def test_a_refused_start_costs_those_who_start_at_the_same_moment_nothing(keeper: Keeper, store: Store) -> None:
    good, bad = await keeper.new(), await keeper.new(value=cast("Any", None))
    answers = await asyncio.gather(store.start([bad]), store.start([good]), return_exceptions=True)
    assert isinstance(answers[0], DefinitionError)
    assert answers[1] == [Started(good.run_id, "pending")]
    assert await keeper.listed() == [good.run_id]


async def test_a_delayed_run_says_when_it_is_due_and_is_not_claimed_before(keeper: Keeper) -> None:
    run_id = await keeper.start(delay=60 * SECOND)
    stored = await keeper.stored(run_id)
    assert (stored.status, stored.wake_at) == ("pending", NOON + 60 * SECOND)
    keeper.clock.go_on(59.9)
    assert await keeper.claim() == []
    keeper.clock.go_on(0.1)
    assert ids(await keeper.claim()) == [run_id]
    assert (await keeper.stored(run_id)).wake_at is None


async def test_many_runs_are_started_at_once_and_claimed_in_their_order(keeper: Keeper, store: Store) -> None:
    news = [await keeper.new(value=b"%d" % number) for number in range(600)]
    started = await store.start(news)
    assert [each.run_id for each in started] == [new.run_id for new in news]
    assert [lease.value for lease in await keeper.claim()] == [new.value for new in news]
