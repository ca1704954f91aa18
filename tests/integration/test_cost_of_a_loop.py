"""A loop that pauses: what a claim reads of it does not grow with the iterations that are behind; rows are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Context, Durable, RunFailedError, durable
from tests.api.running_fixtures import url
from tests.faulty import FaultyStore, faulty_app
from tests.integration.test_cost_of_an_advance import MOST_TIMES, operations
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from stepwell import Workflow

__all__ = ["url"]

ITERATIONS = 25
PAUSE = 0.001


def rows_read(faulty: FaultyStore, run_id: str) -> list[int]:
    """How many rows of the run's journal each claim read."""
    answers = [answer for verb, _, answer in faulty.answers if verb == "load"]
    return [len(answer[run_id].rows) for answer in answers if run_id in answer]


def poll(iterations: int = ITERATIONS, **options: Any) -> Workflow:
    """Two steps, a loop that counts, and two sleeps that have its journal read again when it is over."""

    async def count(given: Any, ctx: Context) -> int:
        assert ctx.results["before"] == "first"
        assert ctx.idempotency_key == f"{ctx.run_id}/poll/#{ctx.iteration}"
        return (given or 0) + 1

    given = {"feedback": lambda result: result, "pause": PAUSE, "max_iterations": iterations, **options}
    flow = durable("flow").step("before", lambda ctx: "first").loop("poll", count, **given)
    return flow.sleep("rest", PAUSE).step("after", lambda ctx: ctx.results["poll"])


async def test_an_iteration_reads_as_many_rows_at_the_end_as_at_the_beginning(url: str) -> None:
    app, faulty = faulty_app(url, [poll()])
    async with app, app.worker():
        run_id = (await app.start("flow")).run_id
        results = await app.result(run_id, timeout=PATIENCE)
        entries = await app.journal(run_id)
    assert results == {"before": "first", "poll": ITERATIONS, "rest": None, "after": ITERATIONS}
    assert [entry.iteration for entry in entries if entry.node == "poll"] == [*range(1, ITERATIONS + 1)]
    read = rows_read(faulty, run_id)
    assert len(read) > ITERATIONS // 2
    assert max(read) <= 2


async def test_failed_attempts_of_the_iteration_under_way_are_read_and_those_before_it_are_not(url: str) -> None:
    attempts: list[tuple[int | None, int]] = []

    async def flaky(given: Any, ctx: Context) -> int:
        attempts.append((ctx.iteration, ctx.attempt))
        if ctx.attempt < 3:
            raise ValueError("again")
        return 1

    flow = durable("flow").loop("poll", flaky, max_iterations=6, pause=PAUSE, max_retries=2, retry_backoff=PAUSE)
    app, faulty = faulty_app(url, [flow])
    async with app, app.worker():
        run_id = (await app.start("flow")).run_id
        await app.result(run_id, timeout=PATIENCE)
    assert attempts == [(iteration, attempt) for iteration in range(1, 7) for attempt in range(1, 4)]
    assert max(rows_read(faulty, run_id)) <= 3


async def test_i5_all_iterations_are_undone_though_the_claim_read_the_last_one_alone(url: str) -> None:
    undone: list[tuple[int | None, Any]] = []

    async def undo(ctx: Context) -> None:
        undone.append((ctx.iteration, ctx.results["poll"]))

    async def fail(ctx: Context) -> None:
        raise Abort("no more")

    flow = durable("flow").step("before", lambda ctx: "first", compensate=undo_first)
    flow.loop("poll", counted, max_iterations=8, pause=PAUSE, compensate=undo, feedback=lambda result: result)
    flow.sleep("rest", PAUSE).step("last", fail)
    app, faulty = faulty_app(url, [flow])
    async with app, app.worker():
        run_id = (await app.start("flow")).run_id
        with pytest.raises(RunFailedError) as failed:
            await app.result(run_id, timeout=PATIENCE)
    assert undone == [(number, number) for number in range(8, 0, -1)]
    assert failed.value.compensated == ("poll",) * 8 + ("before",)
    assert max(rows_read(faulty, run_id)[:-1]) <= 4


async def test_i5_an_iteration_that_fails_has_all_before_it_undone(url: str) -> None:
    undone: list[int | None] = []

    async def undo(ctx: Context) -> None:
        undone.append(ctx.iteration)

    async def fail_late(given: Any, ctx: Context) -> int:
        if ctx.iteration == 6:
            raise Abort("the sixth fails")
        return 1

    flow = durable("flow").loop("poll", fail_late, max_iterations=8, pause=PAUSE, compensate=undo)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        with pytest.raises(RunFailedError):
            await app.result(run_id, timeout=PATIENCE)
    assert undone == [5, 4, 3, 2, 1]


async def test_twice_the_iterations_with_a_pause_cost_about_twice_as_much_in_memory() -> None:
    await poll(2).run()
    once, twice = [await operations(poll(size).run) for size in (80, 160)]
    assert twice < MOST_TIMES * once


async def undo_first(ctx: Context) -> None:
    assert ctx.results["before"] == "first"


async def counted(given: Any, ctx: Context) -> int:
    return int(given or 0) + 1
