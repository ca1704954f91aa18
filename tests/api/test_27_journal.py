"""`journal`: what happened, in order, one outcome for each place."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from stepwell import Abort, Branch, Context, Durable, Entry, RunFailedError, RunNotFoundError, Suspended, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import (
    decline,
    echo,
    one,
    outcomes,
    two,
    undo,
    until_asleep,
    until_status,
)
from tests.gates import Gate
from tests.waiting import PATIENCE

url = running_fixtures.url


async def journal_of(app: Durable, workflow: str, input: Any = None) -> list[Entry]:
    """The journal of a new run of the workflow, once it has ended; it needs a worker."""
    started = await app.start(workflow, input)
    with contextlib.suppress(RunFailedError):
        await app.result(started.run_id, timeout=PATIENCE)
    return await app.journal(started.run_id)


def rows(entries: list[Entry]) -> list[tuple[str, str, int | None, int, str]]:
    return [(entry.node, entry.kind, entry.iteration, entry.attempt, entry.status) for entry in entries]


async def test_an_unknown_run_is_named(url: str) -> None:
    async with Durable(url) as app:
        with pytest.raises(RunNotFoundError, match="0197f0a0-0000-7000-8000-000000000000"):
            await app.journal("0197f0a0-0000-7000-8000-000000000000")


async def test_a_run_that_has_not_begun_has_an_empty_journal(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = await app.start("flow")
        assert await app.journal(started.run_id) == []


async def test_a_step_that_completes_has_one_entry_with_its_facts(url: str) -> None:
    async with Durable(url, [durable("flow").step("say", echo)]) as app, app.worker():
        (entry,) = await journal_of(app, "flow", {"a": [1]})
    assert isinstance(entry, Entry)
    assert rows([entry]) == [("say", "step", None, 1, "completed")]
    assert entry.result == {"a": [1]}
    assert entry.error is None
    assert entry.started_at.utcoffset() == timedelta(0)
    assert entry.finished_at.utcoffset() == timedelta(0)
    assert entry.started_at <= entry.finished_at
    assert isinstance(entry.worker, str)
    assert entry.worker
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.result = 1  # type: ignore[misc]  # what is tested is that it raises


async def test_entries_come_in_the_order_of_the_nodes(url: str) -> None:
    flow = durable("flow").step("c", one).step("a", two).step("b", one)
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert [(entry.node, entry.result) for entry in entries] == [("c", 1), ("a", 2), ("b", 1)]


async def test_each_failed_attempt_is_an_entry_before_the_outcome(url: str) -> None:
    async def third_time(ctx: Context) -> str:
        if ctx.attempt < 3:
            raise OSError(f"attempt {ctx.attempt}")
        return "at last"

    async with Durable(url, [durable("flow").step("work", third_time, retry_backoff=0.01)]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert rows(entries) == [
        ("work", "step", None, 1, "retrying"),
        ("work", "step", None, 2, "retrying"),
        ("work", "step", None, 3, "completed"),
    ]
    assert [entry.error.message if entry.error else None for entry in entries] == ["attempt 1", "attempt 2", None]
    assert [entry.result for entry in entries] == [None, None, "at last"]


async def test_a_node_out_of_attempts_is_failed_at_its_last_attempt(url: str) -> None:
    flow = durable("flow").step("charge", decline, max_retries=2, retry_backoff=0.01)
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert rows(entries) == [
        ("charge", "step", None, 1, "retrying"),
        ("charge", "step", None, 2, "retrying"),
        ("charge", "step", None, 3, "failed"),
    ]
    for entry in entries:
        assert entry.error is not None
        assert (entry.error.node, entry.error.type, entry.error.message) == ("charge", "ValueError", "card declined")
        assert "decline" in entry.error.traceback
        assert entry.result is None


async def test_a_node_that_gives_up_at_once_has_one_entry(url: str) -> None:
    async def hopeless(ctx: Context) -> None:
        raise Abort("no such account")

    async with Durable(url, [durable("flow").step("work", hopeless)]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert rows(entries) == [("work", "step", None, 1, "failed")]
    assert entries[0].error is not None
    assert entries[0].error.message == "no such account"


async def test_each_entry_of_a_parallel_is_journaled_under_its_own_name_and_nothing_else_is(url: str) -> None:
    flow = durable("flow").parallel("both", {"left": one, "right": two}).step("after", one)
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert sorted(outcomes(entries[:2])) == [("left", None, "completed"), ("right", None, "completed")]
    assert {entry.node: entry.result for entry in entries} == {"left": 1, "right": 2, "after": 1}
    assert len(entries) == 3


async def test_a_failed_entry_of_a_parallel_is_the_node_of_its_failure(url: str) -> None:
    flow = durable("flow").parallel("both", {"left": Branch(one, compensate=undo), "right": decline}, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert sorted(outcomes(entries)) == [("left", None, "completed"), ("right", None, "failed")]
    errors = {entry.node: entry.error.node for entry in entries if entry.error}
    assert errors == {"right": "right"}
    assert outcomes(entries, "compensate") == [("left", None, "completed")]


async def test_a_route_journals_its_choice_and_then_the_branch(url: str) -> None:
    flow = durable("flow").route("ship", lambda ctx: ctx.input, {"air": one, "sea": two})
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow", "sea")
    assert rows(entries) == [("ship", "route", None, 1, "completed"), ("ship", "step", None, 1, "completed")]
    assert [entry.result for entry in entries] == ["sea", 2]


async def test_choosing_and_the_branch_each_count_attempts_from_one(url: str) -> None:
    calls = Counter[str]()

    def choose(ctx: Context) -> str:
        calls["choose"] += 1
        if calls["choose"] == 1:
            raise OSError("no answer")
        return "air"

    async def ship(ctx: Context) -> int:
        calls["ship"] += 1
        if calls["ship"] == 1:
            raise OSError("no plane")
        return ctx.attempt

    flow = durable("flow").route("ship", choose, {"air": ship}, retry_backoff=0.01)
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert rows(entries) == [
        ("ship", "route", None, 1, "retrying"),
        ("ship", "route", None, 2, "completed"),
        ("ship", "step", None, 1, "retrying"),
        ("ship", "step", None, 2, "completed"),
    ]


async def test_an_unknown_branch_fails_the_route_without_retries(url: str) -> None:
    flow = durable("flow").route("ship", lambda ctx: "rail", {"air": one, "sea": two})
    async with Durable(url, [flow]) as app, app.worker():
        (entry,) = await journal_of(app, "flow")
    assert (entry.node, entry.attempt, entry.status) == ("ship", 1, "failed")
    assert entry.error is not None
    assert entry.error.type == "UnknownBranch"
    for name in ("rail", "air", "sea"):
        assert name in entry.error.message


async def test_each_iteration_of_a_loop_is_an_entry_and_the_loop_has_none(url: str) -> None:
    async def turn(given: int, ctx: Context) -> int:
        return given + 1

    flow = durable("flow").loop(
        "turns",
        turn,
        max_iterations=9,
        until=lambda result, iteration: result == 3,
        feedback=lambda result: result,
        pause=0.01,
    )
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow", 0)
    assert rows(entries) == [("turns", "step", number, 1, "completed") for number in (1, 2, 3)]
    assert [entry.result for entry in entries] == [1, 2, 3]


async def test_attempts_count_for_each_iteration_anew(url: str) -> None:
    async def second_time(given: Any, ctx: Context) -> int:
        if ctx.attempt == 1:
            raise OSError("busy")
        return ctx.attempt

    flow = durable("flow").loop("turns", second_time, max_iterations=2, retry_backoff=0.01)
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert rows(entries) == [
        ("turns", "step", 1, 1, "retrying"),
        ("turns", "step", 1, 2, "completed"),
        ("turns", "step", 2, 1, "retrying"),
        ("turns", "step", 2, 2, "completed"),
    ]


async def test_a_sleep_has_one_entry_when_it_is_over(url: str) -> None:
    async with Durable(url, [durable("flow").sleep("rest", 0.05)]) as app, app.worker():
        (entry,) = await journal_of(app, "flow")
    assert rows([entry]) == [("rest", "sleep", None, 1, "completed")]
    assert (entry.result, entry.error) == (None, None)


async def test_a_signal_that_was_consumed_is_an_entry_with_its_payload(url: str) -> None:
    async with Durable(url, [durable("flow").wait_for_signal("wait", "go")]) as app:
        started = await app.start("flow")
        await app.signal(started.run_id, "go", {"by": "ada"})
        async with app.worker():
            await app.result(started.run_id, timeout=PATIENCE)
        (entry,) = await app.journal(started.run_id)
    assert rows([entry]) == [("wait", "signal", None, 1, "completed")]
    assert entry.result == {"by": "ada"}


async def test_a_wait_that_gave_its_default_is_an_entry_with_it(url: str) -> None:
    flow = durable("flow").wait_for_signal("wait", "go", timeout=0.02, default="nobody")
    async with Durable(url, [flow]) as app, app.worker():
        (entry,) = await journal_of(app, "flow")
    assert (entry.kind, entry.status, entry.result) == ("signal", "completed", "nobody")


async def test_a_child_that_ended_is_an_entry_with_its_results(url: str) -> None:
    child = durable("child").step("value", one)
    async with Durable(url, [durable("parent").child_workflow("sub", child), child]) as app, app.worker():
        (entry,) = await journal_of(app, "parent")
    assert rows([entry]) == [("sub", "child", None, 1, "completed")]
    assert entry.result == {"value": 1}


async def test_each_suspension_is_an_entry_before_the_outcome(url: str) -> None:
    async def ask(ctx: Context) -> Any:
        asked = ctx.results.get("ask", 0)
        return ctx.resume_data if asked == 2 else Suspended(asked + 1)

    async with Durable(url, [durable("agent").step("ask", ask)]) as app:
        started = await app.start("agent")
        for answer in ("first", "second"):
            await app.signal(started.run_id, "ask", answer)
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"ask": "second"}
        entries = await app.journal(started.run_id)
    steps = [(entry.kind, entry.attempt, entry.status) for entry in entries if entry.node == "ask"]
    assert steps == [("step", 1, "suspended"), ("step", 1, "suspended"), ("step", 1, "completed")]


def never(ctx: Context) -> bool:
    return False


async def test_a_skipped_node_is_one_entry_under_its_own_name(url: str) -> None:
    async def turn(given: Any, ctx: Context) -> int:
        return 1

    child = durable("child").step("value", one)
    flow = (
        durable("flow")
        .step("plain", one, when=never, compensate=undo)
        .parallel("both", {"left": Branch(one, compensate=undo), "right": two}, when=never)
        .route("way", lambda ctx: "air", {"air": one}, when=never)
        .loop("turns", turn, max_iterations=2, when=never)
        .sleep("rest", 3600, when=never)
        .wait_for_signal("wait", "go", when=never)
        .child_workflow("sub", child, when=never)
    )
    async with Durable(url, [flow, child]) as app, app.worker():
        started = await app.start("flow")
        results = await app.result(started.run_id, timeout=PATIENCE)
        entries = await app.journal(started.run_id)
    kinds = ["step", "step", "route", "step", "sleep", "signal", "child"]
    names = ["plain", "both", "way", "turns", "rest", "wait", "sub"]
    assert rows(entries) == [(name, kind, None, 1, "skipped") for name, kind in zip(names, kinds, strict=True)]
    assert results == dict.fromkeys(["plain", "left", "right", "way", "turns", "rest", "wait", "sub"])


async def test_i5_compensators_are_entries_newest_first_after_the_failure(url: str) -> None:
    async def turn(given: Any, ctx: Context) -> int | None:
        return ctx.iteration

    flow = (
        durable("flow")
        .step("first", one, compensate=undo)
        .step("bare", one)
        .loop("turns", turn, max_iterations=2, compensate=undo)
        .step("charge", decline, max_retries=0, compensate=undo)
    )
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert outcomes(entries, "compensate") == [
        ("turns", 2, "completed"),
        ("turns", 1, "completed"),
        ("first", None, "completed"),
    ]
    assert [entry.kind for entry in entries[-3:]] == ["compensate"] * 3
    assert all(entry.result is None for entry in entries[-3:])


async def test_a_compensator_out_of_attempts_is_journaled_failed_and_the_others_still_run(url: str) -> None:
    flow = (
        durable("flow")
        .step("first", one, compensate=undo)
        .step("second", one, compensate=decline, max_retries=1, retry_backoff=0.01)
        .step("charge", decline, max_retries=0)
    )
    async with Durable(url, [flow]) as app, app.worker():
        entries = await journal_of(app, "flow")
    assert [(entry.node, entry.attempt, entry.status) for entry in entries if entry.kind == "compensate"] == [
        ("second", 1, "retrying"),
        ("second", 2, "failed"),
        ("first", 1, "completed"),
    ]


async def test_a_retrying_entry_is_there_while_the_run_waits_for_its_next_attempt(url: str) -> None:
    async with Durable(url, [durable("flow").step("charge", decline, retry_backoff=3600)]) as app, app.worker():
        started = await app.start("flow")
        await until_asleep(app, started.run_id)
        assert rows(await app.journal(started.run_id)) == [("charge", "step", None, 1, "retrying")]


async def test_a_handler_in_flight_has_no_entry_yet(url: str) -> None:
    gate = Gate()
    async with Durable(url, [durable("flow").step("first", one).step("work", gate.handler)]) as app, app.worker():
        started = await app.start("flow")
        await gate.entered()
        assert [entry.node for entry in await app.journal(started.run_id)] == ["first"]
        gate.let()
        await until_status(app, started.run_id, "completed")
