"""Suspended: a step that waits for a human, is re-entered with the answer, and may suspend again."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Context, DefinitionError, Suspended, Workflow, durable
from tests.api.handlers import Call, LineDownError, Spy, fail, nothing
from tests.api.runs import OnSqlite, ended, suspended
from tests.waiting import eventually

SNAPSHOT = {"draft": ["hello"], "turn": 1}
MAPPING = {"status": "suspended", "state": {"turn": 1}, "question": "send it?"}


class Agent:
    """A step that suspends until it has been resumed `turns` times, and remembers every call."""

    def __init__(self, pause: Any, turns: int = 1) -> None:
        self.pause = pause
        self.turns = turns
        self.calls: list[Call] = []
        self.answers: list[Any] = []

    async def handle(self, ctx: Context) -> Any:
        call = Call.of(ctx)
        self.calls.append(call)
        if call.resume_data is not None:
            self.answers.append(call.resume_data)
        return {"answers": self.answers} if len(self.answers) == self.turns else self.pause


def agent_flow(agent: Agent) -> Workflow:
    return durable("order").step("before", lambda ctx: 1).step("agent", agent.handle).step("after", nothing)


@pytest.mark.parametrize("pause", [Suspended(SNAPSHOT), MAPPING], ids=["Suspended", "mapping"])
async def test_the_run_is_suspended_awaiting_a_signal_named_like_the_step(sqlite: OnSqlite, pause: Any) -> None:
    order = agent_flow(Agent(pause))
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        snapshot = await suspended(app, run_id)
        assert (snapshot.awaiting_signal, snapshot.current_node, snapshot.wake_at) == ("agent", "agent", None)
        assert snapshot.results == {"before": 1, "agent": MAPPING if pause is MAPPING else SNAPSHOT}


@pytest.mark.parametrize("by", ["resume", "signal"])
@pytest.mark.parametrize("pause", [Suspended(SNAPSHOT), MAPPING], ids=["Suspended", "mapping"])
async def test_the_answer_re_enters_the_step_with_data_and_snapshot(sqlite: OnSqlite, pause: Any, by: str) -> None:
    agent = Agent(pause)
    order = agent_flow(agent)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id, "agent")
        deliver = app.resume if by == "resume" else app.signal
        assert (await deliver(run_id, "agent", {"ok": True})).accepted
        kept = await ended(app, run_id)
    assert kept.results == {"before": 1, "agent": {"answers": [{"ok": True}]}, "after": None}
    first, second = agent.calls
    assert (first.attempt, first.resume_data, first.results) == (1, None, {"before": 1})
    left = MAPPING if pause is MAPPING else SNAPSHOT
    assert (second.attempt, second.resume_data, second.results) == (1, {"ok": True}, {"before": 1, "agent": left})


async def test_a_step_may_suspend_again(sqlite: OnSqlite) -> None:
    snapshots = [{"turn": 1}, {"turn": 2}]
    seen: list[tuple[Any, Any]] = []

    async def agent(ctx: Context) -> Any:
        seen.append((ctx.resume_data, ctx.results.get("agent")))
        return Suspended(snapshots[len(seen) - 1]) if len(seen) <= 2 else "done"

    order = durable("order").step("agent", agent)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        for turn, answer in enumerate(["first", "second"], start=1):

            async def holds(turn: int = turn) -> bool:
                snapshot = await app.status(run_id)
                return snapshot.status == "suspended" and snapshot.results == {"agent": {"turn": turn}}

            await eventually(holds)
            assert (await app.resume(run_id, "agent", answer)).accepted
        assert (await ended(app, run_id)).results == {"agent": "done"}
    assert seen == [(None, None), ("first", {"turn": 1}), ("second", {"turn": 2})]


async def test_the_re_entry_counts_attempts_from_one_and_its_retries_see_data_and_snapshot(sqlite: OnSqlite) -> None:
    calls: list[Call] = []

    async def agent(ctx: Context) -> Any:
        calls.append(Call.of(ctx))
        if len(calls) in (1, 3):
            raise LineDownError("down")
        return Suspended(SNAPSHOT) if len(calls) == 2 else "done"

    order = durable("order").step("agent", agent, max_retries=1, retry_backoff=0.01)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        await app.resume(run_id, "agent", "go")
        kept = await ended(app, run_id)
    assert kept.results == {"agent": "done"}
    assert [(call.attempt, call.resume_data, call.results) for call in calls] == [
        (1, None, {}),
        (2, None, {}),
        (1, "go", {"agent": SNAPSHOT}),
        (2, "go", {"agent": SNAPSHOT}),
    ]
    assert kept.rows() == [
        ("step", "retrying", 1),
        ("step", "suspended", 2),
        ("step", "retrying", 1),
        ("step", "completed", 2),
    ]


async def test_each_re_entry_has_an_idempotency_key_of_its_own(sqlite: OnSqlite) -> None:
    calls: list[Call] = []

    async def agent(ctx: Context) -> Any:
        calls.append(Call.of(ctx))
        if ctx.attempt == 1:
            raise LineDownError("down")
        return Suspended(len(calls)) if len(calls) < 6 else "done"

    order = durable("order").step("agent", agent, retry_backoff=0.01)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        await app.signal(run_id, "agent", 1)
        await app.signal(run_id, "agent", 2)
        async with app.worker():
            assert (await ended(app, run_id)).results == {"agent": "done"}
    keys = [call.key for call in calls]
    assert keys[0::2] == keys[1::2]
    assert len(set(keys)) == 3


async def test_signals_kept_for_the_run_answer_its_suspensions_in_order(sqlite: OnSqlite) -> None:
    agent = Agent(Suspended(SNAPSHOT), turns=2)
    order = agent_flow(agent)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        await app.signal(run_id, "agent", "first")
        await app.signal(run_id, "agent", "second")
        async with app.worker():
            kept = await ended(app, run_id)
    assert kept.results["agent"] == {"answers": ["first", "second"]}
    assert len(agent.calls) == 3


async def test_of_two_resumes_at_once_one_is_accepted(sqlite: OnSqlite) -> None:
    order = agent_flow(Agent(Suspended(SNAPSHOT), turns=2))
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        async with app.worker():
            await suspended(app, run_id)
        first = await app.resume(run_id, "agent", "first")
        second = await app.resume(run_id, "agent", "second")
        assert (first.accepted, second.accepted) == (True, False)


async def test_resume_data_may_be_nothing(sqlite: OnSqlite) -> None:
    seen: list[tuple[Any, bool]] = []

    async def agent(ctx: Context) -> Any:
        seen.append((ctx.resume_data, "agent" in ctx.results))
        return "done" if "agent" in ctx.results else Suspended(None)

    order = durable("order").step("agent", agent)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        snapshot = await suspended(app, run_id)
        assert snapshot.results == {"agent": None}
        await app.resume(run_id, "agent")
        assert (await ended(app, run_id)).results == {"agent": "done"}
    assert seen == [(None, False), (None, True)]


async def test_each_suspension_is_journaled_as_suspended_with_its_snapshot(sqlite: OnSqlite) -> None:
    order = durable("order").step("agent", Agent(Suspended(SNAPSHOT)).handle)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        (entry,) = await app.journal(run_id)
        assert (entry.node, entry.kind, entry.status, entry.attempt) == ("agent", "step", "suspended", 1)
        assert (entry.result, entry.error) == (SNAPSHOT, None)
        await app.resume(run_id, "agent", "go")
        kept = await ended(app, run_id)
    assert kept.rows() == [("step", "suspended", 1), ("step", "completed", 1)]
    assert kept.journal[-1].result == {"answers": ["go"]}


async def test_a_suspended_run_outlives_its_worker(sqlite: OnSqlite) -> None:
    agent = Agent(Suspended(SNAPSHOT))
    order = agent_flow(agent)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        async with app.worker():
            await suspended(app, run_id)
    async with sqlite.open(order) as app:
        assert (await app.resume(run_id, "agent", "go")).accepted
        async with app.worker():
            kept = await ended(app, run_id)
    assert kept.results["agent"] == {"answers": ["go"]}
    assert len(agent.calls) == 2


async def test_a_step_that_suspended_and_then_failed_is_not_undone(sqlite: OnSqlite) -> None:
    undo, undo_before = Spy(), Spy()

    async def agent(ctx: Context) -> Any:
        if "agent" in ctx.results:
            raise LineDownError("down")
        return Suspended(SNAPSHOT)

    order = durable("order").step("before", nothing, compensate=undo_before.handle)
    order.step("agent", agent, compensate=undo.handle, max_retries=0)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        await app.resume(run_id, "agent", "go")
        kept = await ended(app, run_id)
    assert kept.compensated == ["before"]
    assert undo.calls == []
    assert kept.rows("agent") == [("step", "suspended", 1), ("step", "failed", 1)]
    assert (kept.snapshot.results, kept.snapshot.damaged) == ({"before": None}, None)


async def test_a_step_that_completed_after_suspending_is_undone_once_with_its_result(sqlite: OnSqlite) -> None:
    undo = Spy()
    order = durable("order").step("agent", Agent(MAPPING).handle, compensate=undo.handle)
    order.step("last", fail, max_retries=0)
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        await app.resume(run_id, "agent", "go")
        kept = await ended(app, run_id)
    assert kept.compensated == ["agent"]
    assert [call.results["agent"] for call in undo.calls] == [{"answers": ["go"]}]


# What does not suspend.


@pytest.mark.parametrize(
    "plain", [{"status": "suspended"}, {"status": "done", "state": 1}, {"state": 1}, "suspended", [MAPPING]]
)
async def test_any_other_result_of_a_step_is_a_result(sqlite: OnSqlite, plain: Any) -> None:
    assert (await sqlite(durable("order").step("agent", lambda ctx: plain))).results == {"agent": plain}


async def test_a_snapshot_that_is_not_json_fails_the_node(sqlite: OnSqlite) -> None:
    kept = await sqlite(durable("order").step("agent", lambda ctx: Suspended({"turn": {1, 2}})))
    assert (kept.failure.node, kept.failure.type) == ("agent", "PayloadError")
    assert kept.rows() == [("step", "failed", 1)]


@pytest.mark.parametrize("pause", [Suspended(SNAPSHOT), MAPPING], ids=["Suspended", "mapping"])
async def test_suspending_needs_a_store(pause: Any) -> None:
    with pytest.raises(DefinitionError, match="agent"):
        await agent_flow(Agent(pause)).run()
