"""The wait_for_signal node: a run suspended until a signal comes, or its timeout; and the signals that reach it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepwell import DefinitionError, Durable, RunNotFoundError, Workflow, durable
from tests.api.handlers import Spy, nothing
from tests.api.runs import OnSqlite, ended, suspended
from tests.waiting import eventually


def signoff(**options: Any) -> Workflow:
    return durable("order").wait_for_signal("signoff", "founder-signoff", **options)


@pytest.mark.parametrize("payload", [None, True, 0, "yes", [1, {"a": None}], {"by": "ann", "on": [2, 3]}])
async def test_the_result_is_the_payload(sqlite: OnSqlite, payload: Any) -> None:
    close = Spy()
    order = signoff().step("close", close.handle)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        assert (await app.signal(run_id, "founder-signoff", payload)).accepted
        kept = await ended(app, run_id)
    assert kept.results == {"signoff": payload, "close": None}
    assert close.calls[0].results == {"signoff": payload}


async def test_a_waiting_run_is_suspended_and_names_its_signal(sqlite: OnSqlite) -> None:
    order = durable("order").step("before", nothing).wait_for_signal("signoff", "founder-signoff")
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        snapshot = await suspended(app, run_id)
        assert (snapshot.awaiting_signal, snapshot.current_node, snapshot.wake_at) == (
            "founder-signoff",
            "signoff",
            None,
        )
        assert [entry.node for entry in await app.journal(run_id)] == ["before"]


async def test_resume_delivers_to_the_waiting_run(sqlite: OnSqlite) -> None:
    order = signoff()
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        assert (await app.resume(run_id, "founder-signoff", "yes")).accepted
        assert (await ended(app, run_id)).results == {"signoff": "yes"}


async def test_resume_by_another_name_or_before_the_wait_changes_nothing(sqlite: OnSqlite) -> None:
    order = signoff()
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        early = await app.resume(run_id, "founder-signoff", "early")
        assert (early.accepted, early.status) == (False, "pending")
        async with app.worker():
            await suspended(app, run_id)
            wrong = await app.resume(run_id, "signoff", "the node's name")
            assert (wrong.accepted, wrong.status) == (False, "suspended")
            await app.resume(run_id, "founder-signoff", "right")
            assert (await ended(app, run_id)).results == {"signoff": "right"}


async def test_a_signal_sent_before_the_run_waits_is_kept_for_it(sqlite: OnSqlite) -> None:
    order = signoff()
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        early = await app.signal(run_id, "founder-signoff", "early")
        assert (early.accepted, early.status) == (True, "pending")
        async with app.worker():
            assert (await ended(app, run_id)).results == {"signoff": "early"}


async def test_signals_of_one_name_are_consumed_once_each_first_in_first_out(sqlite: OnSqlite) -> None:
    order = durable("order")
    for node in ("first", "second", "third"):
        order.wait_for_signal(node, "signoff")
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        await app.signal(run_id, "signoff", 1)
        await app.signal(run_id, "signoff", 2)
        async with app.worker():

            async def waits_for_the_third() -> bool:
                snapshot = await app.status(run_id)
                return snapshot.status == "suspended" and snapshot.current_node == "third"

            await eventually(waits_for_the_third)
            await app.signal(run_id, "signoff", 3)
            assert (await ended(app, run_id)).results == {"first": 1, "second": 2, "third": 3}


async def test_a_signal_of_another_name_is_kept_for_its_own_wait(sqlite: OnSqlite) -> None:
    order = durable("order").wait_for_signal("one", "red").wait_for_signal("two", "blue")
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id, "red")
        await app.signal(run_id, "blue", "b")
        assert (await app.status(run_id)).awaiting_signal == "red"
        await app.signal(run_id, "red", "r")
        assert (await ended(app, run_id)).results == {"one": "r", "two": "b"}


async def test_a_signal_to_an_unknown_run_is_refused(sqlite: OnSqlite) -> None:
    unknown = "01890000-0000-7000-8000-000000000000"
    async with sqlite.open(signoff()) as app:
        with pytest.raises(RunNotFoundError):
            await app.signal(unknown, "founder-signoff")
        with pytest.raises(RunNotFoundError):
            await app.resume(unknown, "founder-signoff")


async def test_a_key_the_run_has_accepted_changes_nothing(sqlite: OnSqlite) -> None:
    order = durable("order").wait_for_signal("one", "red").wait_for_signal("two", "red")
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        assert (await app.signal(run_id, "red", "first", key="k")).accepted
        assert (await app.signal(run_id, "red", "again", key="k")).accepted
        assert (await app.resume(run_id, "red", "again", key="k")).accepted

        async def waits_for_the_second() -> bool:
            return (await app.status(run_id)).current_node == "two"

        await eventually(waits_for_the_second)
        await app.signal(run_id, "red", "second")
        assert (await ended(app, run_id)).results == {"one": "first", "two": "second"}
        late = await app.signal(run_id, "red", "late", key="k")
        assert (late.accepted, late.status) == (True, "completed")
        assert not (await app.signal(run_id, "red", "late")).accepted


# The timeout.


async def test_without_a_default_the_timeout_fails_the_node_without_retries(sqlite: OnSqlite) -> None:
    kept = await sqlite(signoff(timeout=0.1))
    assert (kept.failure.node, kept.failure.type) == ("signoff", "SignalTimeout")
    assert "founder-signoff" in kept.failure.message
    assert kept.rows() == [("signal", "failed", 1)]


@pytest.mark.parametrize("default", [None, False, "silence", {"approved": False}])
async def test_a_default_is_the_result_after_the_timeout(sqlite: OnSqlite, default: Any) -> None:
    kept = await sqlite(signoff(timeout=timedelta(seconds=0.1), default=default))
    assert kept.results == {"signoff": default}
    assert kept.rows() == [("signal", "completed", 1)]
    assert kept.journal[0].result == default


async def test_a_signal_in_time_beats_the_default(sqlite: OnSqlite) -> None:
    order = signoff(timeout=60, default="silence")
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        await app.signal(run_id, "founder-signoff", "in time")
        assert (await ended(app, run_id)).results == {"signoff": "in time"}


async def test_a_signal_kept_for_the_run_beats_a_timeout_of_nothing(sqlite: OnSqlite) -> None:
    order = signoff(timeout=0.001, default="silence")
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        await app.signal(run_id, "founder-signoff", "early")
        async with app.worker():
            assert (await ended(app, run_id)).results == {"signoff": "early"}


async def test_the_timeout_counts_from_when_the_run_began_to_wait(sqlite: OnSqlite) -> None:
    order = durable("order").sleep("nap", 0.5).wait_for_signal("signoff", "founder-signoff", timeout=timedelta(hours=1))
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        snapshot = await suspended(app, run_id)
        (nap,) = await app.journal(run_id)
        assert snapshot.wake_at is not None
        assert snapshot.wake_at.utcoffset() == timedelta(0)
        waited = snapshot.wake_at - nap.finished_at
        assert timedelta(minutes=59, seconds=59) <= waited <= timedelta(hours=1, seconds=30)


async def test_a_change_of_workers_does_not_start_the_timeout_anew(sqlite: OnSqlite) -> None:
    order = signoff(timeout=3600)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        async with app.worker():
            before = await suspended(app, run_id)
        await app.recover()
        async with app.worker():
            after = await suspended(app, run_id)
        assert before.wake_at == after.wake_at


# What is journaled.


async def test_the_signal_is_journaled_when_it_is_consumed(sqlite: OnSqlite) -> None:
    order = signoff()
    before = datetime.now(UTC)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        assert list(await app.journal(run_id)) == []
        await app.signal(run_id, "founder-signoff", {"by": "ann"})
        kept = await ended(app, run_id)
    (entry,) = kept.journal
    assert (entry.node, entry.kind, entry.status, entry.attempt) == ("signoff", "signal", "completed", 1)
    assert (entry.result, entry.error, entry.iteration) == ({"by": "ann"}, None, None)
    assert before - timedelta(seconds=1) <= entry.started_at <= entry.finished_at


async def test_a_run_that_failed_at_its_wait_is_compensated(sqlite: OnSqlite) -> None:
    undo = Spy()
    order = durable("order").step("reserve", nothing, compensate=undo.handle)
    order.wait_for_signal("signoff", "founder-signoff", timeout=0.05)
    kept = await sqlite(order)
    assert kept.compensated == ["reserve"]
    assert len(undo.calls) == 1


async def test_waiting_for_a_signal_needs_a_store() -> None:
    with pytest.raises(DefinitionError, match="signoff"):
        await signoff(timeout=0.01, default="silence").run()


async def test_a_run_waits_without_any_worker(sqlite: OnSqlite) -> None:
    order = signoff()
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        async with app.worker():
            await suspended(app, run_id)
    async with Durable(sqlite.url) as elsewhere:
        answer = await elsewhere.signal(run_id, "founder-signoff", "from afar")
        assert answer.accepted
    async with sqlite.open(order) as app, app.worker():
        assert (await ended(app, run_id)).results == {"signoff": "from afar"}
