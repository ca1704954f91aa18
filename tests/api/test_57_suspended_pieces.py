"""Suspended in a parallel's entry, a loop's iteration and a route's branch: that piece waits, the others go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepwell import Branch, Context, DefinitionError, RunSnapshot, Suspended, Workflow, durable
from tests.api.handlers import LineDownError, Spy, fail
from tests.api.runs import OnSqlite, ended
from tests.waiting import eventually

MAPPING = {"status": "suspended", "state": {"turn": 1}}
ASKS = Suspended("?")
either = pytest.mark.parametrize("pause", [Suspended({"asks": 1}), MAPPING], ids=["Suspended", "mapping"])


class Asker:
    """Suspends itself until it was answered `turns` times; remembers what each call saw."""

    def __init__(self, pause: Any = ASKS, turns: int = 1) -> None:
        self.pause = pause
        self.turns = turns
        self.saw: list[tuple[Any, ...]] = []
        self.keys: list[str] = []
        self.inputs: list[Any] = []

    async def handle(self, ctx: Context) -> Any:
        self.saw.append((ctx.iteration, ctx.attempt, ctx.resume_data, ctx.results.get(ctx.step)))
        self.keys.append(ctx.idempotency_key)
        answered = sum(one[2] is not None and one[0] == ctx.iteration for one in self.saw)
        return f"answered {ctx.resume_data}" if answered == self.turns else self.pause

    async def iterate(self, value: Any, ctx: Context) -> Any:
        self.inputs.append(value)
        return await self.handle(ctx)


class Gate:
    """A handler that says that it has begun, and goes on when it is opened."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.opened = asyncio.Event()

    async def handle(self, ctx: Context) -> str:
        self.begun.set()
        await self.opened.wait()
        return "through"


def is_waiting(app: Any, run_id: str, *names: str, status: str = "suspended") -> Any:
    async def look() -> RunSnapshot | None:
        run = await app.status(run_id)
        return run if (run.status, run.awaiting_signals) == (status, names) else None

    return eventually(look)


@either
async def test_an_entry_waits_for_a_signal_of_its_name_while_the_others_go_on(sqlite: OnSqlite, pause: Any) -> None:
    asker = Asker(pause)
    flow = durable("order").parallel("all", {"ask": asker.handle, "do": lambda ctx: "done"})
    left = pause.snapshot if isinstance(pause, Suspended) else pause
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        run = await is_waiting(app, run_id, "ask")
        assert (run.awaiting_signal, run.awaiting_signals, run.waits_for) == ("ask", ("ask",), "signal")
        assert (run.results, run.damaged, run.wake_at) == ({"ask": left, "do": "done"}, None, None)
        assert (await app.resume(run_id, "ask", "yes")).accepted
        kept = await ended(app, run_id)
    assert kept.results == {"ask": "answered yes", "do": "done"}
    assert asker.saw == [(None, 1, None, None), (None, 1, "yes", left)]
    assert len(set(asker.keys)) == 2
    assert kept.rows("ask") == [("step", "suspended", 1), ("step", "completed", 1)]


@either
async def test_an_iteration_waits_for_a_signal_named_like_the_loop(sqlite: OnSqlite, pause: Any) -> None:
    asker = Asker(pause)
    flow = durable("order").loop("ask", asker.iterate, max_iterations=2, map_input=lambda ctx: 7)
    left = pause.snapshot if isinstance(pause, Suspended) else pause
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        for answer in ("first", "second"):
            run = await is_waiting(app, run_id, "ask")
            assert (run.current_node, run.damaged, run.results) == ("ask", None, {"ask": left})
            assert (await app.resume(run_id, "ask", answer)).accepted
            await eventually(lambda: _has_iteration(app, run_id, 1 if answer == "first" else 2))  # noqa: B023
        kept = await ended(app, run_id)
    assert kept.results == {"ask": "answered second"}
    assert asker.saw == [
        (1, 1, None, None),
        (1, 1, "first", left),
        (2, 1, None, None),
        (2, 1, "second", left),
    ]
    assert asker.inputs == [7] * 4
    assert [(one.iteration, one.status) for one in kept.journal] == [
        (1, "suspended"),
        (1, "completed"),
        (2, "suspended"),
        (2, "completed"),
    ]


async def _has_iteration(app: Any, run_id: str, number: int) -> bool:
    return any(one.iteration == number and one.status == "completed" for one in await app.journal(run_id))


@either
async def test_a_branch_waits_for_a_signal_named_like_the_route(sqlite: OnSqlite, pause: Any) -> None:
    asker, chosen = Asker(pause), []

    def choose(ctx: Context) -> str:
        chosen.append(ctx.attempt)
        return "b"

    flow = durable("order").route("ship", choose, {"a": fail, "b": asker.handle})
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await is_waiting(app, run_id, "ship")
        assert (await app.signal(run_id, "ship", "yes")).accepted
        kept = await ended(app, run_id)
    assert kept.results == {"ship": "answered yes"}
    assert chosen == [1]
    assert kept.rows() == [("route", "completed", 1), ("step", "suspended", 1), ("step", "completed", 1)]


async def test_i6_a_resume_is_accepted_while_another_entry_runs_and_enters_at_once(sqlite: OnSqlite) -> None:
    gate, asker = Gate(), Asker()
    flow = durable("order").parallel("all", {"ask": asker.handle, "slow": gate.handle})
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await gate.begun.wait()
        run = await is_waiting(app, run_id, "ask", status="running")
        assert run.results == {"ask": "?"}
        answer = await app.resume(run_id, "ask", "yes")
        assert (answer.accepted, answer.status) == (True, "running")
        assert not (await app.resume(run_id, "ask", "no")).accepted
        await eventually(lambda: len(asker.saw) == 2)
        assert not gate.opened.is_set()
        gate.opened.set()
        kept = await ended(app, run_id)
    assert kept.results == {"ask": "answered yes", "slow": "through"}


async def test_answers_to_several_entries_come_in_any_order_and_all_at_once(sqlite: OnSqlite) -> None:
    askers = {name: Asker(turns=2) for name in ("a", "b", "c")}
    flow = durable("order").parallel("all", {name: asker.handle for name, asker in askers.items()})
    async with sqlite.open(flow) as app:
        run_id = (await app.start(flow)).run_id
        async with app.worker():
            await is_waiting(app, run_id, "a", "b", "c")
        first = await asyncio.gather(*(app.resume(run_id, name, 1) for name in ("c", "a")))
        assert [one.accepted for one in first] == [True, True]
        assert (await app.status(run_id)).awaiting_signals == ("b",)
        async with app.worker():
            await is_waiting(app, run_id, "a", "b", "c")
            for name in ("b", "a", "c"):
                assert (await app.resume(run_id, name, 2)).accepted
            await is_waiting(app, run_id, "b")
            assert (await app.resume(run_id, "b", 3)).accepted
            kept = await ended(app, run_id)
    assert kept.results == {"a": "answered 2", "b": "answered 3", "c": "answered 2"}


async def test_an_answer_that_comes_before_the_entry_suspends_is_used(sqlite: OnSqlite) -> None:
    asker, other = Asker(), Asker()
    flow = durable("order").parallel("all", {"ask": asker.handle, "other": other.handle})
    async with sqlite.open(flow) as app:
        run_id = (await app.start(flow)).run_id
        assert (await app.signal(run_id, "ask", "early")).accepted
        assert not (await app.resume(run_id, "other", "early")).accepted
        async with app.worker():
            run = await is_waiting(app, run_id, "other")
            assert run.results == {"ask": "answered early", "other": "?"}
            await app.resume(run_id, "other", "late")
            kept = await ended(app, run_id)
    assert kept.results == {"ask": "answered early", "other": "answered late"}


async def test_a_re_entered_entry_is_retried_with_its_answer_also_by_another_worker(sqlite: OnSqlite) -> None:
    asker, calls = Asker(), []

    async def ask(ctx: Context) -> Any:
        calls.append((ctx.attempt, ctx.resume_data))
        if ctx.resume_data is not None and ctx.attempt < 3:
            raise LineDownError("down")
        return Suspended("?") if ctx.resume_data is None else ctx.resume_data

    entries = {"ask": ask, "other": asker.handle}
    flow = durable("order").parallel("all", entries, retry_backoff=0.3)
    async with sqlite.open(flow) as app:
        run_id = (await app.start(flow)).run_id
        async with app.worker():
            await is_waiting(app, run_id, "ask", "other")
            await app.resume(run_id, "ask", "go")
            await eventually(lambda: len(calls) >= 2)
        async with app.worker():
            run = await is_waiting(app, run_id, "other")
            assert run.results["ask"] == "go"
            await app.resume(run_id, "other", "go")
            kept = await ended(app, run_id)
    assert calls == [(1, None), (1, "go"), (2, "go"), (3, "go")]
    assert [row[1] for row in kept.rows("ask")] == ["suspended", "retrying", "retrying", "completed"]


async def test_beside_a_retry_the_run_stays_running_and_says_both(sqlite: OnSqlite) -> None:
    flow = durable("order").parallel("all", {"ask": Asker().handle, "bad": fail}, max_retries=1, retry_backoff=3600)
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        run = await is_waiting(app, run_id, "ask", status="running")
        run = await eventually(lambda: _parked(app, run_id))
        assert (run.status, run.waits_for, run.awaiting_signals) == ("running", "retry", ("ask",))
        told = await app.explain(run_id)
        assert (str(told.reason), "ask" in told.sentence) == ("retrying", True)
        assert (await app.resume(run_id, "ask", "yes")).accepted
        run = await eventually(lambda: _answered(app, run_id))
        assert (run.status, run.awaiting_signals) == ("running", ())


async def _parked(app: Any, run_id: str) -> RunSnapshot | None:
    run: RunSnapshot = await app.status(run_id)
    return run if run.wake_at is not None else None


async def _answered(app: Any, run_id: str) -> RunSnapshot | None:
    run: RunSnapshot = await app.status(run_id)
    return run if run.wake_at is not None and (run.results or {}).get("ask") == "answered yes" else None


async def test_what_was_suspended_is_not_undone_when_another_entry_fails(sqlite: OnSqlite) -> None:
    undone, kept_undone = Spy(), Spy()
    entries: dict[str, Any] = {
        "ask": Branch(Asker().handle, compensate=undone.handle),
        "done": Branch(lambda ctx: 1, compensate=kept_undone.handle),
        "bad": fail,
    }
    flow = durable("order").parallel("all", entries, max_retries=1, retry_backoff=0.2)
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        kept = await ended(app, run_id)
        assert (kept.failure.node, kept.compensated, undone.calls) == ("bad", ["done"], [])
        answer = await app.resume(run_id, "ask", "late")
        assert (answer.accepted, answer.status) == (False, "failed")
    assert (kept.snapshot.awaiting_signals, kept.snapshot.damaged) == ((), None)


async def test_an_entry_that_fails_after_its_answer_fails_the_run_though_another_waits(sqlite: OnSqlite) -> None:
    async def ask(ctx: Context) -> Any:
        if ctx.resume_data is None:
            return Suspended("?")
        raise LineDownError("down")

    flow = durable("order").parallel("all", {"ask": ask, "other": Asker().handle}, max_retries=0)
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await is_waiting(app, run_id, "ask", "other")
        await app.resume(run_id, "ask", "go")
        kept = await ended(app, run_id)
    assert (kept.failure.node, kept.snapshot.awaiting_signals) == ("ask", ())


async def test_a_cancel_ends_what_is_suspended_and_an_answer_after_it_is_refused(sqlite: OnSqlite) -> None:
    gate, asker = Gate(), Asker()
    flow = durable("order").parallel("all", {"ask": asker.handle, "slow": gate.handle})
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await is_waiting(app, run_id, "ask", status="running")
        await app.cancel(run_id)
        run = await app.status(run_id)
        assert (run.status, run.awaiting_signals) == ("canceled", ())
        assert not (await app.resume(run_id, "ask", "late")).accepted
    assert len(asker.saw) == 1


SUSPENDING = {
    "entry": lambda pause: durable("order").parallel("all", {"node": pause, "other": lambda ctx: 1}),
    "branch": lambda pause: durable("order").route("node", lambda ctx: "b", {"b": pause}),
    "iteration": lambda pause: durable("order").loop("node", lambda value, ctx: pause(ctx), max_iterations=2),
}


@pytest.mark.parametrize("kind", SUSPENDING)
async def test_without_a_store_nothing_can_suspend(kind: str) -> None:
    flow: Workflow = SUSPENDING[kind](lambda ctx: Suspended(1))
    with pytest.raises(DefinitionError, match="node"):
        await flow.run()


@pytest.mark.parametrize("kind", SUSPENDING)
async def test_a_snapshot_that_is_not_json_fails_its_piece(sqlite: OnSqlite, kind: str) -> None:
    kept = await sqlite(SUSPENDING[kind](lambda ctx: Suspended({1, 2})))
    assert (kept.failure.node, kept.failure.type) == ("node", "PayloadError")
