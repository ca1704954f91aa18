"""The loop node: one handler again and again, fed by what it returned, until a condition or a limit ends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stepwell import Context, durable
from tests.api.handlers import LineDownError, Spy, nothing
from tests.api.runs import ended, work_until

if TYPE_CHECKING:
    from tests.api.runs import OnSqlite, Runner


def count(input: int, ctx: Context) -> int:
    return input + 1


class Inputs:
    """A loop's handler that remembers its inputs and returns ten times the iteration."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def handle(self, input: Any, ctx: Context) -> int:
        self.seen.append(input)
        assert ctx.iteration is not None
        return ctx.iteration * 10


async def test_the_result_is_the_last_once_until_is_true(runner: Runner) -> None:
    order = durable("order").loop(
        "poll", count, max_iterations=10, until=lambda result, iteration: result >= 3, feedback=lambda result: result
    )
    assert (await runner(order, 0)).results == {"poll": 3}


async def test_until_is_given_the_result_and_the_iteration_from_one(runner: Runner) -> None:
    asked: list[tuple[Any, int]] = []

    def is_done(result: Any, iteration: int) -> bool:
        asked.append((result, iteration))
        return iteration == 3

    order = durable("order").loop("poll", Inputs().handle, max_iterations=9, until=is_done)
    assert (await runner(order)).results == {"poll": 30}
    assert asked == [(10, 1), (20, 2), (30, 3)]


async def test_reaching_max_iterations_completes_the_loop(runner: Runner) -> None:
    inputs = Inputs()
    order = durable("order").loop("poll", inputs.handle, max_iterations=2, until=lambda result, iteration: False)
    assert (await runner(order.step("close", nothing))).results == {"poll": 20, "close": None}
    assert len(inputs.seen) == 2


async def test_without_until_a_loop_runs_max_iterations(runner: Runner) -> None:
    inputs = Inputs()
    assert (await runner(durable("order").loop("poll", inputs.handle, max_iterations=4))).results == {"poll": 40}
    assert len(inputs.seen) == 4


async def test_the_first_input_is_the_runs_and_stays_without_feedback(runner: Runner) -> None:
    inputs = Inputs()
    await runner(durable("order").loop("poll", inputs.handle, max_iterations=3), {"id": 7})
    assert inputs.seen == [{"id": 7}] * 3


async def test_map_input_gives_the_first_input(runner: Runner) -> None:
    inputs = Inputs()
    order = durable("order").step("find", lambda ctx: [1, 2])
    order.loop("poll", inputs.handle, max_iterations=2, map_input=lambda ctx: [*ctx.results["find"], ctx.input])
    await runner(order, 3)
    assert inputs.seen == [[1, 2, 3], [1, 2, 3]]


async def test_feedback_gives_every_next_input_from_the_result(runner: Runner) -> None:
    inputs = Inputs()
    order = durable("order").loop("poll", inputs.handle, max_iterations=3, feedback=lambda result: {"after": result})
    await runner(order, "first")
    assert inputs.seen == ["first", {"after": 10}, {"after": 20}]


async def test_functions_of_a_loop_may_be_async(runner: Runner) -> None:
    async def first(ctx: Context) -> int:
        return 5

    async def is_done(result: int, iteration: int) -> bool:
        return result == 8

    async def following(result: int) -> int:
        return result

    async def pause(result: int, iteration: int) -> float:
        return 0.001

    order = durable("order").loop(
        "poll", count, max_iterations=9, map_input=first, until=is_done, feedback=following, pause=pause
    )
    assert (await runner(order)).results == {"poll": 8}


async def test_the_context_counts_iterations_and_each_has_its_own_attempts(runner: Runner) -> None:
    seen: list[tuple[str, int | None, int]] = []

    async def poll(input: Any, ctx: Context) -> None:
        seen.append((ctx.step, ctx.iteration, ctx.attempt))
        if ctx.attempt < 3 and ctx.iteration == 2:
            raise LineDownError("twice in the second")

    order = durable("order").loop("poll", poll, max_iterations=3, max_retries=2, retry_backoff=0.01)
    await runner(order)
    assert seen == [("poll", 1, 1), ("poll", 2, 1), ("poll", 2, 2), ("poll", 2, 3), ("poll", 3, 1)]


async def test_results_hold_the_loop_only_once_it_has_ended(runner: Runner) -> None:
    poll, close = Spy("polled"), Spy()
    order = durable("order").step("find", lambda ctx: 1).loop("poll", poll.iterate, max_iterations=3)
    await runner(order.step("close", close.handle))
    assert [call.results for call in poll.calls] == [{"find": 1}] * 3
    assert close.calls[0].results == {"find": 1, "poll": "polled"}


async def test_a_retried_iteration_is_given_the_same_input(runner: Runner) -> None:
    seen: list[Any] = []

    async def poll(input: Any, ctx: Context) -> str:
        seen.append(input)
        if len(seen) == 2:
            raise LineDownError("once")
        return f"result {ctx.iteration}"

    order = durable("order").loop("poll", poll, max_iterations=2, feedback=lambda result: result, retry_backoff=0.01)
    await runner(order, "first")
    assert seen == ["first", "result 1", "result 1"]


async def test_an_iteration_out_of_attempts_fails_the_loop(runner: Runner) -> None:
    async def poll(input: Any, ctx: Context) -> None:
        if ctx.iteration == 2:
            raise LineDownError("in the second")

    outcome = await runner(durable("order").loop("poll", poll, max_iterations=5, max_retries=1, retry_backoff=0.01))
    assert (outcome.failure.node, outcome.failure.message) == ("poll", "in the second")


async def test_what_a_handler_changes_in_its_input_the_next_iteration_does_not_see(runner: Runner) -> None:
    lengths: list[int] = []

    def poll(input: list[int], ctx: Context) -> None:
        lengths.append(len(input))
        input.append(9)

    await runner(durable("order").loop("poll", poll, max_iterations=3), [1])
    assert lengths == [1, 1, 1]


async def test_what_feedback_and_until_change_in_the_result_nobody_else_sees(runner: Runner) -> None:
    seen: list[Any] = []

    def poll(input: Any, ctx: Context) -> list[int]:
        seen.append(input)
        return [1]

    def is_done(result: list[int], iteration: int) -> bool:
        result.append(2)
        return False

    def following(result: list[int]) -> list[int]:
        given = list(result)
        result.append(3)
        return given

    order = durable("order").loop("poll", poll, max_iterations=2, until=is_done, feedback=following)
    assert (await runner(order)).results == {"poll": [1]}
    assert seen == [None, [1]]


# What is journaled.


async def test_each_iteration_is_journaled_and_the_node_not_at_all(sqlite: OnSqlite) -> None:
    async def poll(input: Any, ctx: Context) -> str:
        if (ctx.iteration, ctx.attempt) == (2, 1):
            raise LineDownError("once")
        return f"result {ctx.iteration}"

    kept = await sqlite(durable("order").loop("poll", poll, max_iterations=3, retry_backoff=0.01))
    rows = [(entry.node, entry.kind, entry.iteration, entry.attempt, entry.status) for entry in kept.journal]
    assert rows == [
        ("poll", "step", 1, 1, "completed"),
        ("poll", "step", 2, 1, "retrying"),
        ("poll", "step", 2, 2, "completed"),
        ("poll", "step", 3, 1, "completed"),
    ]
    assert [entry.result for entry in kept.journal] == ["result 1", None, "result 2", "result 3"]


async def test_a_failed_iteration_is_journaled_failed_after_the_completed_ones(sqlite: OnSqlite) -> None:
    async def poll(input: Any, ctx: Context) -> None:
        if ctx.iteration == 2:
            raise LineDownError("in the second")

    kept = await sqlite(durable("order").loop("poll", poll, max_iterations=5, max_retries=1, retry_backoff=0.01))
    rows = [(entry.iteration, entry.attempt, entry.status) for entry in kept.journal]
    assert rows == [(1, 1, "completed"), (2, 1, "retrying"), (2, 2, "failed")]
    assert "poll" not in (kept.snapshot.results or {})


async def test_an_iteration_once_journaled_is_never_run_or_asked_again(sqlite: OnSqlite) -> None:
    calls: list[tuple[str, Any]] = []
    go_on = asyncio.Event()

    async def poll(input: Any, ctx: Context) -> str:
        calls.append(("handler", (ctx.iteration, ctx.attempt, input)))
        if ctx.iteration == 2 and not go_on.is_set():
            await asyncio.Event().wait()
        return f"result {ctx.iteration}"

    def is_done(result: str, iteration: int) -> bool:
        calls.append(("until", iteration))
        return iteration == 2

    def following(result: str) -> int:
        calls.append(("feedback", result))
        return len(calls)

    def pause(result: str, iteration: int) -> float:
        calls.append(("pause", iteration))
        return 0.001

    order = durable("order").loop("poll", poll, max_iterations=9, until=is_done, feedback=following, pause=pause)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order, "first")).run_id
        await work_until(app, lambda: ("handler", (2, 1, 3)) in calls or ("handler", (2, 1, 4)) in calls)
        before = list(calls)
        go_on.set()
        async with app.worker():
            kept = await ended(app, run_id)
    assert kept.results == {"poll": "result 2"}
    assert sorted(name for name, _ in before) == ["feedback", "handler", "handler", "pause", "until"]
    assert calls[len(before) :] == [before[-1], ("until", 2)]
    assert [(entry.iteration, entry.status) for entry in kept.journal] == [(1, "completed"), (2, "completed")]
