"""Payloads that do not fit what their wait declares: refused, journaled, and the wait goes on."""

from __future__ import annotations

import asyncio
import logging
from datetime import date, timedelta
from typing import Any

import pytest

from stepwell import Branch, Context, DefinitionError, Durable, PayloadError, RunSnapshot, Suspended, Workflow, durable
from tests.api.runs import OnSqlite, ended
from tests.waiting import eventually


def ask(ctx: Context[Any]) -> Any:
    return Suspended("when?") if ctx.resume_data is None else str(ctx.resume_data)


def iterate(value: Any, ctx: Context[Any]) -> Any:
    return ask(ctx)


WAITING: dict[str, Any] = {
    "wait": lambda: durable("order").wait_for_signal("node", "when", payload=date),
    "step": lambda: durable("order").step("when", ask, resume=date),
    "entry": lambda: durable("order").parallel("all", {"when": Branch(ask, resume=date), "other": lambda ctx: 1}),
    "branch": lambda: durable("order").route("when", lambda ctx: "b", {"b": Branch(ask, resume=date)}),
    "iteration": lambda: durable("order").loop("when", iterate, max_iterations=1, resume=date),
}
each = pytest.mark.parametrize("kind", WAITING)
DAY = "2026-12-01"
REASON = "must be date, got str 'soon'"


def is_waiting(app: Durable, run_id: str) -> Any:
    async def look() -> RunSnapshot | None:
        run = await app.status(run_id)
        return run if run.status == "suspended" and run.awaiting_signals == ("when",) else None

    return eventually(look)


def stranger(sqlite: OnSqlite) -> Durable:
    """An app on the same file that knows no workflow, and so delivers what it is given."""
    return sqlite.open()


async def refused_in(app: Durable, run_id: str, count: int) -> list[Any]:
    """The refused entries of the run, once there are this many."""

    async def look() -> list[Any]:
        found = [entry for entry in await app.journal(run_id) if entry.status == "refused"]
        return found if len(found) >= count else []

    found: list[Any] = await eventually(look)
    return found


@each
async def test_a_wrong_payload_is_refused_where_it_is_sent_and_nothing_is_written(sqlite: OnSqlite, kind: str) -> None:
    flow = WAITING[kind]()
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await is_waiting(app, run_id)
        for deliver in (app.signal, app.resume):
            with pytest.raises(PayloadError, match="data: must be date, got str 'soon'"):
                await deliver(run_id, "when", "soon", key="k")
        run = await is_waiting(app, run_id)
        assert (run.unread_signals, len(await refused_or_none(app, run_id))) == ({}, 0)
        assert (await app.resume(run_id, "when", date(2026, 12, 1), key="k")).accepted
        await ended(app, run_id)


async def refused_or_none(app: Durable, run_id: str) -> list[Any]:
    return [entry for entry in await app.journal(run_id) if entry.status == "refused"]


@each
async def test_i6_a_wrong_payload_from_elsewhere_is_journaled_and_the_wait_goes_on(
    sqlite: OnSqlite, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow = WAITING[kind]()
    async with sqlite.open(flow) as app, app.worker(), stranger(sqlite) as other:
        run_id = (await app.start(flow)).run_id
        await is_waiting(app, run_id)
        with caplog.at_level(logging.WARNING, "stepwell"):
            assert (await other.resume(run_id, "when", "soon", key="k")).accepted
            (entry,) = await refused_in(app, run_id, 1)
        name = "node" if kind == "wait" else "when"
        assert (entry.node, entry.kind, entry.status, entry.attempt, entry.result) == (
            name,
            "signal",
            "refused",
            1,
            "soon",
        )
        assert (entry.error.type, entry.error.message) == (
            "PayloadError",
            f"payload.{name}: must be date, got str 'soon'",
        )
        run = await is_waiting(app, run_id)
        assert (run.error, run.damaged) == (None, None)
        await eventually(lambda: any("refused a payload" in record.getMessage() for record in caplog.records))
        assert (await other.resume(run_id, "when", DAY, key="k")).accepted
        kept = await ended(app, run_id)
    assert kept.snapshot.status == "completed"
    assert kept.results["node" if kind == "wait" else "when"] == (date(2026, 12, 1) if kind == "wait" else DAY)


@each
async def test_i6_wrong_payloads_that_wait_for_their_run_are_refused_one_by_one(sqlite: OnSqlite, kind: str) -> None:
    flow = WAITING[kind]()
    async with sqlite.open(flow) as app, stranger(sqlite) as other:
        run_id = (await app.start(flow)).run_id
        for payload in ("soon", 7, None, DAY, "later"):
            assert (await other.signal(run_id, "when", payload)).accepted
        async with app.worker():
            kept = await ended(app, run_id)
    assert [entry.result for entry in kept.journal if entry.status == "refused"] == ["soon", 7, None]
    assert kept.snapshot.unread_signals == {"when": 1}
    assert kept.snapshot.damaged is None


@each
async def test_i6_what_was_refused_outlives_its_worker(sqlite: OnSqlite, kind: str) -> None:
    flow = WAITING[kind]()
    async with sqlite.open(flow) as app, stranger(sqlite) as other:
        run_id = (await app.start(flow)).run_id
        for answer in ("soon", "later", DAY):
            async with app.worker():
                await is_waiting(app, run_id)
            assert (await other.resume(run_id, "when", answer)).accepted
        async with app.worker():
            kept = await ended(app, run_id)
    assert [entry.result for entry in kept.journal if entry.status == "refused"] == ["soon", "later"]
    assert kept.snapshot.damaged is None


async def test_a_refused_payload_is_put_back_once_and_taken_by_a_definition_that_it_fits(sqlite: OnSqlite) -> None:
    strict, mild = WAITING["wait"](), durable("order").wait_for_signal("node", "when", payload=str)
    async with sqlite.open(strict) as app, stranger(sqlite) as other:
        run_id = (await app.start(strict)).run_id
        async with app.worker():
            await is_waiting(app, run_id)
            await other.signal(run_id, "when", "soon")
            (entry,) = await refused_in(app, run_id, 1)
            await is_waiting(app, run_id)
        with pytest.raises(DefinitionError, match=r"entry 9 of run .* is no refused payload\. Refused: 1"):
            await app.redeliver(run_id, 9)
    async with sqlite.open(mild) as app:
        assert (await app.redeliver(run_id, entry)).accepted
        assert (await app.redeliver(run_id, entry.seq)).accepted
        assert (await app.status(run_id)).unread_signals == {"when": 1}
        async with app.worker():
            kept = await ended(app, run_id)
    assert kept.results == {"node": "soon"}


async def test_a_payload_that_fits_one_of_several_waits_is_accepted(sqlite: OnSqlite) -> None:
    flow = durable("order").wait_for_signal("one", "when", payload=date).wait_for_signal("two", "when", payload=int)
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await is_waiting(app, run_id)
        assert (await app.signal(run_id, "when", 7)).accepted
        await refused_in(app, run_id, 1)
        await is_waiting(app, run_id)
        assert (await app.signal(run_id, "when", DAY)).accepted
        assert (await app.signal(run_id, "when", 8)).accepted
        kept = await ended(app, run_id)
    assert kept.results == {"one": date(2026, 12, 1), "two": 8}


async def test_i6_a_wait_journals_a_hundred_refusals_and_counts_the_others_in_the_last(sqlite: OnSqlite) -> None:
    flow = WAITING["wait"]()
    async with sqlite.open(flow) as app, stranger(sqlite) as other:
        run_id = (await app.start(flow)).run_id
        for part in (60, 43):
            await asyncio.gather(*(other.signal(run_id, "when", number) for number in range(part)))
            async with app.worker():
                await eventually(lambda: _is_read(app, run_id))
        await other.signal(run_id, "when", DAY)
        async with app.worker():
            kept = await ended(app, run_id)
    refused = [entry for entry in kept.journal if entry.status == "refused"]
    assert len(refused) == 100
    told = [str(entry.error) for entry in refused]
    assert told[-1].endswith("(3 more were refused after it)")
    assert not any("more were refused" in one for one in told[:-1])
    assert (kept.results, kept.snapshot.damaged) == ({"node": date(2026, 12, 1)}, None)


async def _is_read(app: Durable, run_id: str) -> bool:
    run = await app.status(run_id)
    return run.status == "suspended" and not run.unread_signals


async def test_i4_a_timeout_counts_from_when_the_wait_began_whatever_was_refused(sqlite: OnSqlite) -> None:
    hour = timedelta(hours=1)
    flow: Workflow[Any] = durable("order").wait_for_signal("node", "when", payload=date, timeout=hour)
    async with sqlite.open(flow) as app, app.worker(), stranger(sqlite) as other:
        run_id = (await app.start(flow)).run_id
        before = await is_waiting(app, run_id)
        await other.signal(run_id, "when", "soon")
        await refused_in(app, run_id, 1)
        assert (await is_waiting(app, run_id)).wake_at == before.wake_at


async def test_payloads_of_undeclared_waits_and_of_unknown_workflows_are_not_checked(sqlite: OnSqlite) -> None:
    flow = durable("order").wait_for_signal("node", "when")
    async with sqlite.open(flow) as app, app.worker(), stranger(sqlite) as other:
        for sender in (app, other):
            run_id = (await app.start(flow)).run_id
            assert (await sender.signal(run_id, "when", {"any": [1]})).accepted
            assert (await ended(app, run_id)).results == {"node": {"any": [1]}}
