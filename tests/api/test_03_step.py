"""The step node: one handler, its result under the node's name, one journal row for its outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Failure, durable
from tests.api.handlers import Spy, fail, nothing

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite, Runner


async def test_the_result_of_a_step_is_under_its_name(runner: Runner) -> None:
    order = durable("order").step("price", lambda ctx: {"cents": ctx.input["cents"] * 2})
    assert (await runner(order, {"cents": 21})).results == {"price": {"cents": 42}}


async def test_a_step_that_returns_nothing_has_the_result_none(runner: Runner) -> None:
    assert (await runner(durable("order").step("close", nothing))).results == {"close": None}


async def test_steps_run_one_after_the_other_each_seeing_what_came_before(runner: Runner) -> None:
    first, second, third = Spy("a"), Spy("b"), Spy("c")
    order = durable("order").step("1st", first.handle).step("2nd", second.handle).step("3rd", third.handle)
    assert (await runner(order)).results == {"1st": "a", "2nd": "b", "3rd": "c"}
    assert [spy.calls[0].results for spy in (first, second, third)] == [{}, {"1st": "a"}, {"1st": "a", "2nd": "b"}]


async def test_the_order_of_the_results_is_the_order_of_completion(runner: Runner) -> None:
    order = durable("order").step("z", nothing).step("a", nothing).step("m", nothing)
    assert list((await runner(order)).results) == ["z", "a", "m"]


@pytest.mark.parametrize("value", [None, True, 0, -3, 1.5, "", "text", [], [1, [2]], {}, {"a": {"b": [None]}}])
async def test_input_and_result_are_any_json_value(runner: Runner, value: Any) -> None:
    order = durable("order").step("echo", lambda ctx: ctx.input)
    result = (await runner(order, value)).results["echo"]
    assert result == value
    assert type(result) is type(value)


async def test_a_step_that_fails_for_good_fails_the_run_and_nothing_after_it_begins(runner: Runner) -> None:
    after = Spy()
    order = durable("order").step("charge", fail, max_retries=0).step("ship", after.handle)
    outcome = await runner(order)
    assert outcome.failure.node == "charge"
    assert after.calls == []


async def test_the_failure_tells_node_type_message_and_traceback(runner: Runner) -> None:
    order = durable("order").step("reserve", nothing).step("charge", fail, max_retries=0)
    failure = (await runner(order)).failure
    assert isinstance(failure, Failure)
    assert (failure.node, failure.type, failure.message) == ("charge", "LineDownError", "the line is down")
    assert "raise LineDownError" in failure.traceback


async def test_the_message_of_the_error_names_the_node_and_the_reason(runner: Runner) -> None:
    error = (await runner(durable("order").step("charge", fail, max_retries=0))).error
    assert "charge" in str(error)
    assert "the line is down" in str(error)


async def test_a_handler_error_without_a_working_str_is_recorded_all_the_same(runner: Runner) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    async def charge(ctx: Context) -> None:
        raise MuteError

    failure = (await runner(durable("order").step("charge", charge, max_retries=0))).failure
    assert (failure.node, failure.type) == ("charge", "MuteError")
    assert isinstance(failure.message, str)


async def test_an_error_text_no_database_would_take_is_recorded_all_the_same(runner: Runner) -> None:
    async def charge(ctx: Context) -> None:
        raise ValueError("nul \x00 and half a character \ud800 in it")

    failure = (await runner(durable("order").step("charge", charge, max_retries=0))).failure
    assert failure.type == "ValueError"
    assert "half a character" in failure.message


async def test_a_step_is_retried_until_it_succeeds(runner: Runner) -> None:
    charge = Spy("paid", failures=2)
    outcome = await runner(durable("order").step("charge", charge.handle, retry_backoff=0.01))
    assert outcome.results == {"charge": "paid"}
    assert charge.attempts == [1, 2, 3]


# What is journaled.


async def test_a_completed_step_has_one_entry_with_its_result(sqlite: OnSqlite) -> None:
    kept = await sqlite(durable("order").step("charge", lambda ctx: {"paid": 3}))
    (entry,) = kept.journal
    assert (entry.node, entry.kind, entry.status, entry.attempt, entry.iteration) == (
        *("charge", "step", "completed", 1),
        None,
    )
    assert entry.result == {"paid": 3}
    assert entry.error is None
    assert isinstance(entry.worker, str)
    assert entry.worker


async def test_an_entry_says_in_utc_when_the_attempt_began_and_ended(sqlite: OnSqlite) -> None:
    before = datetime.now(UTC)
    kept = await sqlite(durable("order").step("charge", nothing).step("ship", nothing))
    after = datetime.now(UTC)
    second = timedelta(seconds=1)
    for entry in kept.journal:
        assert entry.started_at.utcoffset() == timedelta(0)
        assert entry.finished_at.utcoffset() == timedelta(0)
        assert before - second <= entry.started_at <= entry.finished_at <= after + second


async def test_each_failed_attempt_is_journaled_as_retrying_with_its_error(sqlite: OnSqlite) -> None:
    charge = Spy("paid", failures=2)
    kept = await sqlite(durable("order").step("charge", charge.handle, retry_backoff=0.01))
    assert kept.rows() == [("step", "retrying", 1), ("step", "retrying", 2), ("step", "completed", 3)]
    for entry in kept.journal[:2]:
        assert entry.result is None
        assert isinstance(entry.error, Failure)
        assert (entry.error.node, entry.error.type) == ("charge", "LineDownError")
        assert entry.error.message == "the line is down"
    assert kept.journal[2].error is None


async def test_the_last_failed_attempt_is_journaled_as_failed(sqlite: OnSqlite) -> None:
    kept = await sqlite(durable("order").step("charge", fail, max_retries=2, retry_backoff=0.01))
    assert kept.rows() == [("step", "retrying", 1), ("step", "retrying", 2), ("step", "failed", 3)]
    assert kept.journal[-1].error == kept.failure == kept.snapshot.error
    assert kept.snapshot.status == "failed"


async def test_the_journal_is_in_the_order_of_what_happened(sqlite: OnSqlite) -> None:
    order = durable("order").step("z", nothing).step("a", Spy(failures=1).handle, retry_backoff=0.01).step("m", nothing)
    kept = await sqlite(order)
    assert [(entry.node, entry.status) for entry in kept.journal] == [
        ("z", "completed"),
        ("a", "retrying"),
        ("a", "completed"),
        ("m", "completed"),
    ]


async def test_an_entry_is_frozen(sqlite: OnSqlite) -> None:
    kept = await sqlite(durable("order").step("charge", nothing))
    with pytest.raises(AttributeError):
        kept.journal[0].status = "failed"  # type: ignore[misc]
