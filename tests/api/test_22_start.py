"""`start`: a run is stored and due at once; keys, delays, and what is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Durable, PayloadError, RunStatus, StartResult, WorkflowNotRegisteredError, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import decline, echo, file_url, one, until_status
from tests.gates import Gate
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

url = running_fixtures.url


async def test_start_gives_the_runs_id_and_status(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        started = await app.start("greet", 1)
        assert isinstance(started, StartResult)
        assert started == StartResult(run_id=started.run_id, status=RunStatus.PENDING)
        with pytest.raises(dataclasses.FrozenInstanceError):
            started.run_id = "other"  # type: ignore[misc]  # what is tested is that it raises


async def test_the_id_of_a_run_is_a_uuid_of_version_7_as_a_string(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        started = await app.start("greet")
    parsed = uuid.UUID(started.run_id)
    assert parsed.version == 7
    assert str(parsed) == started.run_id


async def test_a_workflow_is_started_by_its_name_or_by_itself(url: str) -> None:
    greet = durable("greet").step("say", echo)
    async with Durable(url, [greet]) as app:
        names = [(await app.status((await app.start(which)).run_id)).workflow_name for which in ("greet", greet)]
    assert names == ["greet", "greet"]


async def test_start_needs_no_worker_and_waits_for_none(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        started = await app.start("greet", {"to": "you"})
        snapshot = await app.status(started.run_id)
    assert snapshot.status == "pending"
    assert snapshot.input == {"to": "you"}
    assert snapshot.wake_at is None


async def test_a_started_run_moves_as_soon_as_there_is_a_worker(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        started = await app.start("greet", "hello")
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"say": "hello"}


@pytest.mark.parametrize(
    "given", [None, True, 0, -1.5, "", "héllo\u0000\n", [], [1, [2]], {}, {"": {"a": None}}], ids=repr
)
async def test_every_json_value_is_an_input_and_comes_back_equal(url: str, given: Any) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app, app.worker():
        started = await app.start("greet", given)
        assert await app.result(started.run_id, timeout=PATIENCE) == {"say": given}
        assert (await app.status(started.run_id)).input == given


async def test_the_input_is_what_it_was_at_the_call(url: str) -> None:
    basket = {"items": ["tea"]}
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        started = await app.start("greet", basket)
        basket["items"].append("cake")
        assert (await app.status(started.run_id)).input == {"items": ["tea"]}


async def test_an_unknown_name_is_refused_and_says_which_are_known(url: str) -> None:
    async with Durable(url, [durable("order").step("say", one), durable("refund").step("say", one)]) as app:
        with pytest.raises(WorkflowNotRegisteredError) as caught:
            await app.start("ordr")
        assert await app.list() == []
    for name in ("ordr", "order", "refund"):
        assert name in str(caught.value)


async def test_a_workflow_that_is_not_registered_is_refused(url: str) -> None:
    async with Durable(url) as app:
        with pytest.raises(WorkflowNotRegisteredError, match="order"):
            await app.start(durable("order").step("say", one))


async def test_an_input_that_is_not_json_is_refused_at_the_call_and_stores_nothing(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        with pytest.raises(PayloadError, match=r"items\[1\]\.at: datetime"):
            await app.start("greet", {"items": [{}, {"at": datetime.now(UTC)}]})
        assert await app.list() == []


async def test_the_same_key_gives_the_first_run_whatever_the_input(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        first = await app.start("greet", "first", key="order-1")
        second = await app.start("greet", "second", key="order-1")
        assert second == first
        assert len(await app.list()) == 1
        snapshot = await app.status(first.run_id)
    assert snapshot.input == "first"
    assert snapshot.key == "order-1"


async def test_i10_a_key_gives_its_run_as_it_stands_also_after_the_end(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app, app.worker():
        first = await app.start("greet", "first", key="order-1")
        await app.result(first.run_id, timeout=PATIENCE)
        assert await app.start("greet", "second", key="order-1") == StartResult(first.run_id, RunStatus.COMPLETED)
        assert await app.result(first.run_id, timeout=PATIENCE) == {"say": "first"}


async def test_a_key_taken_by_a_failed_run_starts_nothing_new(url: str) -> None:
    async with Durable(url, [durable("pay").step("charge", decline, max_retries=0)]) as app, app.worker():
        first = await app.start("pay", key="order-1")
        await until_status(app, first.run_id, "failed")
        assert await app.start("pay", key="order-1") == StartResult(first.run_id, RunStatus.FAILED)


async def test_a_key_belongs_to_its_workflow(url: str) -> None:
    flows = [durable("greet").step("say", echo), durable("part").step("say", echo)]
    async with Durable(url, flows) as app:
        assert (await app.start("greet", key="k")).run_id != (await app.start("part", key="k")).run_id


async def test_runs_without_a_key_are_all_new(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        assert len({(await app.start("greet", 1)).run_id for _ in range(5)}) == 5


async def test_i10_the_same_key_started_at_the_same_time_makes_one_run(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        started = await asyncio.gather(*(app.start("greet", number, key="order-1") for number in range(20)))
        assert len({each.run_id for each in started}) == 1
        assert len(await app.list()) == 1


async def test_i10_the_same_key_started_by_two_apps_makes_one_run(tmp_path: Path) -> None:
    async with (
        Durable(file_url(tmp_path), [durable("greet").step("say", echo)]) as first,
        Durable(file_url(tmp_path), [durable("greet").step("say", echo)]) as second,
    ):
        calls = [app.start("greet", key=f"order-{number}") for number in range(10) for app in (first, second)]
        started = await asyncio.gather(*calls)
        assert len({each.run_id for each in started}) == 10
        assert len(await first.list()) == 10


@pytest.mark.parametrize("delay", [3600, 3600.0, timedelta(hours=1)], ids=repr)
async def test_a_delayed_run_is_pending_and_knows_when_it_will_move(url: str, delay: float | timedelta) -> None:
    greet, marker = durable("greet").step("say", echo), durable("marker").step("say", one)
    async with Durable(url, [greet, marker]) as app, app.worker():
        before = datetime.now(UTC)
        late = await app.start("greet", delay=delay)
        assert late.status == "pending"
        await app.result((await app.start("marker")).run_id, timeout=PATIENCE)
        snapshot = await app.status(late.run_id)
    assert snapshot.status == "pending"
    assert snapshot.wake_at is not None
    assert snapshot.wake_at.utcoffset() == timedelta(0)
    assert abs(snapshot.wake_at - before - timedelta(hours=1)) < timedelta(minutes=1)


async def test_a_delayed_run_moves_when_its_time_has_come(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app, app.worker():
        started = await app.start("greet", "late", delay=0.05)
        assert await app.result(started.run_id, timeout=PATIENCE) == {"say": "late"}
        snapshot = await app.status(started.run_id)
        entries = await app.journal(started.run_id)
    assert snapshot.wake_at is None
    assert snapshot.created_at is not None
    assert entries[0].started_at >= snapshot.created_at + timedelta(seconds=0.04)


async def test_the_delay_of_a_second_start_with_a_key_changes_nothing(url: str) -> None:
    async with Durable(url, [durable("greet").step("say", echo)]) as app:
        first = await app.start("greet", key="k")
        assert await app.start("greet", key="k", delay=3600) == first
        assert (await app.status(first.run_id)).wake_at is None


async def test_a_start_while_a_worker_is_at_its_limit_returns_at_once(url: str) -> None:
    gate = Gate()
    async with Durable(url, [durable("slow").step("wait", gate.handler)]) as app, app.worker(concurrency=1):
        await app.start("slow")
        await gate.entered()
        second = await app.start("slow")
        assert second.status == "pending"
        gate.let()
        assert await app.result(second.run_id, timeout=PATIENCE) == {"wait": None}


@pytest.mark.parametrize(
    ("first", "again", "same"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        (1, 1.0, True),
        (1, True, False),
        ([0], [False], False),
        ({"a": None}, {}, False),
        ([1, 2], [2, 1], False),
        ("1", 1, False),
    ],
)
async def test_a_known_key_tells_whether_the_input_is_the_same(url: str, first: Any, again: Any, *, same: bool) -> None:
    async with Durable(url, [durable("greet").step("hello", echo)]) as app:
        created = await app.start("greet", first, key="k")
        known = await app.start("greet", again, key="k")
        keyless = await app.start("greet", again)

    assert (created.created, created.same_input) == (True, True)
    assert (known.run_id, known.created, known.same_input) == (created.run_id, False, same)
    assert (keyless.created, keyless.same_input) == (True, True)


async def test_of_many_started_at_once_each_tells_whether_it_is_new(url: str) -> None:
    async with Durable(url, [durable("greet").step("hello", echo)]) as app:
        await app.start("greet", 0, key="old")
        inputs, keys = [1, 0, 2, 2, 3], ["a", "old", "b", "b", "b"]
        started = await app.start_many("greet", inputs, keys=keys)

    assert [each.created for each in started] == [True, False, True, False, False]
    assert [each.same_input for each in started] == [True, True, True, True, False]
    assert len({each.run_id for each in started}) == 3
