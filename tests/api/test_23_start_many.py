"""`start_many`: many runs in one transaction, in order, with a key for each."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, DurableError, PayloadError, RunStatus, StartResult, WorkflowNotRegisteredError, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import echo, file_url
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Workflow

url = running_fixtures.url


def greet() -> Workflow:
    return durable("greet").step("say", echo)


async def test_each_input_makes_a_run_in_its_order(url: str) -> None:
    async with Durable(url, [greet()]) as app, app.worker():
        started = await app.start_many("greet", [{"n": n} for n in range(10)])
        assert isinstance(started, list)
        assert len({each.run_id for each in started}) == 10
        for number, each in enumerate(started):
            assert await app.result(each.run_id, timeout=PATIENCE) == {"say": {"n": number}}


async def test_each_result_is_what_start_would_have_given(url: str) -> None:
    async with Durable(url, [greet()]) as app:
        started = await app.start_many("greet", [1, 2])
    assert started == [StartResult(each.run_id, RunStatus.PENDING) for each in started]


async def test_many_are_started_by_the_workflow_itself_too(url: str) -> None:
    workflow = greet()
    async with Durable(url, [workflow]) as app:
        assert len(await app.start_many(workflow, ["a", "b"])) == 2


async def test_no_inputs_start_nothing(url: str) -> None:
    async with Durable(url, [greet()]) as app:
        assert await app.start_many("greet", []) == []
        assert await app.list() == []


async def test_a_thousand_runs_start_in_one_call(url: str) -> None:
    async with Durable(url, [greet()]) as app:
        started = await app.start_many("greet", list(range(1000)))
        assert len({each.run_id for each in started}) == 1000
        assert len(await app.list(limit=2000)) == 1000
        assert (await app.status(started[637].run_id)).input == 637


async def test_an_input_that_is_not_json_stores_none_of_them(url: str) -> None:
    async with Durable(url, [greet()]) as app:
        with pytest.raises(PayloadError, match="set"):
            await app.start_many("greet", [1, 2, {"bad": {3}}, 4])
        assert await app.list() == []


async def test_an_unknown_workflow_stores_none_of_them(url: str) -> None:
    async with Durable(url, [greet()]) as app:
        with pytest.raises(WorkflowNotRegisteredError, match="greet"):
            await app.start_many("great", [1])
        assert await app.list() == []


async def test_each_input_has_its_key(url: str) -> None:
    async with Durable(url, [greet()]) as app:
        started = await app.start_many("greet", ["a", "b"], keys=["key-a", "key-b"])
        assert [(await app.status(each.run_id)).key for each in started] == ["key-a", "key-b"]
        assert [(await app.status(each.run_id)).input for each in started] == ["a", "b"]


async def test_i10_a_key_given_twice_is_one_run_with_the_first_input(url: str) -> None:
    async with Durable(url, [greet()]) as app:
        started = await app.start_many("greet", ["a", "b", "c"], keys=["same", "other", "same"])
        assert started[0] == started[2]
        assert started[0] != started[1]
        assert len(await app.list()) == 2
        assert (await app.status(started[0].run_id)).input == "a"


async def test_keys_that_are_taken_give_their_runs_among_the_new_ones(url: str) -> None:
    async with Durable(url, [greet()]) as app, app.worker():
        first = await app.start("greet", "old", key="b")
        await app.result(first.run_id, timeout=PATIENCE)
        started = await app.start_many("greet", [1, 2, 3], keys=["a", "b", "c"])
        assert started[1] == StartResult(first.run_id, RunStatus.COMPLETED)
        assert len(await app.list()) == 3
        assert (await app.status(first.run_id)).input == "old"


async def test_the_same_call_twice_starts_nothing_new(url: str) -> None:
    async with Durable(url, [greet()]) as app:
        first = await app.start_many("greet", [1, 2, 3], keys=["a", "b", "c"])
        assert await app.start_many("greet", [4, 5, 6], keys=["a", "b", "c"]) == first
        assert len(await app.list()) == 3


@pytest.mark.parametrize("keys", [["a"], ["a", "b", "c"], []], ids=repr)
async def test_as_many_keys_as_inputs_are_needed(url: str, keys: list[str]) -> None:
    async with Durable(url, [greet()]) as app:
        with pytest.raises((DurableError, ValueError), match="key"):
            await app.start_many("greet", [1, 2], keys=keys)
        assert await app.list() == []


async def test_a_delay_holds_for_all_of_them(url: str) -> None:
    async with Durable(url, [greet()]) as app:
        started = await app.start_many("greet", [1, 2], delay=timedelta(hours=1))
        due = [(await app.status(each.run_id)).wake_at for each in started]
    assert all(at is not None and at > datetime.now(UTC) + timedelta(minutes=59) for at in due)


async def test_i10_keys_in_opposite_orders_at_the_same_time_make_one_run_each(tmp_path: Path) -> None:
    keys = [f"key-{number}" for number in range(50)]
    async with Durable(file_url(tmp_path), [greet()]) as first, Durable(file_url(tmp_path), [greet()]) as second:
        forward, backward = await asyncio.gather(
            first.start_many("greet", list(range(50)), keys=keys),
            second.start_many("greet", list(range(50)), keys=keys[::-1]),
        )
        assert [each.run_id for each in forward] == [each.run_id for each in backward[::-1]]
        assert len(await first.list()) == 50
