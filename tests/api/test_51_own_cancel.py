"""What a function does to its own task is its own: a cancel is a failed attempt, and reaches nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, Suspended, Workflow, durable
from tests.api import running_fixtures
from tests.gates import Gate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.runs import Runner

url = running_fixtures.url
ONCE_MORE: dict[str, Any] = {"max_retries": 1, "retry_backoff": 0, "retry_on": (Exception, asyncio.CancelledError)}


def own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def cancel_and_wait(*given: Any) -> Any:
    own_task().cancel()
    await asyncio.Event().wait()


async def cancel_and_return(*given: Any) -> Any:
    own_task().cancel()
    return 1


async def wait_cancel_and_return(*given: Any) -> Any:
    await asyncio.sleep(0)
    own_task().cancel()
    return 1


async def cancel_and_yield(*given: Any) -> Any:
    own_task().cancel()
    await asyncio.sleep(0)
    return 1


async def timer(*given: Any) -> Any:
    asyncio.get_running_loop().call_soon(own_task().cancel)
    await asyncio.Event().wait()


async def scope_left_open(*given: Any) -> Any:
    """A task group whose background task fails while the handler still waits: it cancels the handler's task."""

    async def fail() -> None:
        raise ValueError("background")

    scope = asyncio.TaskGroup()
    await scope.__aenter__()
    scope.create_task(fail())
    await asyncio.Event().wait()


def plain_cancel(*given: Any) -> Any:
    own_task().cancel()
    return 1


SELF_CANCELING = (cancel_and_wait, cancel_and_return, wait_cancel_and_return, cancel_and_yield, timer, scope_left_open)


async def one(*given: Any) -> int:
    return 1


async def waits(*given: Any) -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    return 2


def in_place(place: str, function: Callable[..., Any]) -> Workflow:
    flow = durable("flow")
    match place:
        case "step":
            flow.step("bad", function, **ONCE_MORE)
        case "parallel":
            flow.parallel("all", {"bad": function, "good": waits}, **ONCE_MORE)
        case "branch":
            flow.route("bad", lambda ctx: "x", {"x": function}, **ONCE_MORE)
        case "resolver":
            flow.route("bad", function, {"x": one}, **ONCE_MORE)
        case "loop":
            flow.loop("bad", function, max_iterations=2, **ONCE_MORE)
        case "until":
            flow.loop("bad", waits, max_iterations=2, until=function, **ONCE_MORE)
        case "condition":
            flow.step("bad", one, when=function, **ONCE_MORE)
        case _:
            flow.loop("bad", one, max_iterations=1, map_input=function, **ONCE_MORE)
    return flow


@pytest.mark.parametrize("function", SELF_CANCELING)
@pytest.mark.parametrize("place", ["step", "parallel", "branch", "resolver", "loop", "until", "condition", "mapper"])
async def test_a_function_that_cancels_its_own_task_has_failed_its_attempt(
    runner: Runner, place: str, function: Callable[..., Any]
) -> None:
    calls = list[int]()

    async def counted(*given: Any) -> Any:
        calls.append(1)
        return await function(*given)

    failure = (await runner(in_place(place, counted))).failure
    assert (failure.node, failure.type) == ("bad", "CancelledError")
    assert len(calls) == 2


@pytest.mark.parametrize("place", ["resolver", "until", "condition", "mapper"])
async def test_a_plain_function_on_the_event_loop_that_cancels_its_task_has_failed_its_attempt(
    runner: Runner, place: str
) -> None:
    failure = (await runner(in_place(place, plain_cancel))).failure
    assert (failure.node, failure.type) == ("bad", "CancelledError")


@pytest.mark.parametrize("function", SELF_CANCELING)
async def test_a_compensator_that_cancels_its_task_is_journaled_failed_and_the_others_still_run(
    runner: Runner, function: Callable[..., Any]
) -> None:
    flow = durable("flow").step("first", one, compensate=waits)
    flow.step("second", one, compensate=function, max_retries=0)
    flow.step("fails", lambda ctx: 1 // 0, max_retries=0)
    assert (await runner(flow)).compensated == ["first"]


@pytest.mark.parametrize("function", SELF_CANCELING)
async def test_a_step_that_is_entered_again_may_cancel_its_task_too(url: str, function: Callable[..., Any]) -> None:
    async def ask(ctx: Context) -> Any:
        return Suspended() if ctx.resume_data is None else await function()

    flow = durable("flow").step("ask", ask, **ONCE_MORE)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await app.signal(run_id, "ask", "yes")

        async def ended() -> Any:
            found = await app.status(run_id)
            return found if found.finished_at is not None else None

        found = await eventually(ended)
        tried = [(entry.status, entry.attempt) for entry in await app.journal(run_id)]
    assert found.error is not None
    assert found.error.type == "CancelledError"
    assert tried == [("suspended", 1), ("retrying", 1), ("failed", 2)]


async def swallow(ctx: Context) -> str:
    asyncio.get_running_loop().call_soon(own_task().cancel)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "fine"
    return "never"


async def convert(ctx: Context) -> str:
    asyncio.get_running_loop().call_soon(own_task().cancel)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ConnectionError("timed out") from None
    return "never"


async def test_a_cancel_that_a_handler_swallows_leaves_its_result_and_no_count_behind(runner: Runner) -> None:
    counts = list[int]()

    async def count(ctx: Context) -> int:
        counts.append(own_task().cancelling())
        return await waits()

    flow = durable("flow").step("swallow", swallow).step("waits", count).step("quick", one)
    assert (await runner(flow)).results == {"swallow": "fine", "waits": 2, "quick": 1}
    assert counts == [0]


async def test_a_cancel_that_a_handler_turns_into_another_error_is_that_error(runner: Runner) -> None:
    failure = (await runner(durable("flow").step("a", convert, max_retries=0))).failure
    assert (failure.type, failure.message) == ("ConnectionError", "timed out")


async def test_what_a_handler_leaves_behind_cannot_cancel_what_comes_after_it(runner: Runner) -> None:
    """Its task, kept by a timer, a task group that was never left, or a background task, is cancelled later."""
    kept = list[asyncio.Task[Any]]()
    background = list[asyncio.Task[Any]]()

    async def keep(ctx: Context) -> int:
        kept.append(own_task())
        return 1

    async def keep_and_wait(ctx: Context) -> int:
        kept.append(own_task())
        return await waits()

    async def leave_open(ctx: Context) -> int:
        async def fail() -> None:
            await asyncio.sleep(0)
            raise ValueError("background")

        scope = asyncio.TaskGroup()
        await scope.__aenter__()
        background.append(scope.create_task(fail()))
        return 1

    async def cancel_kept(ctx: Context) -> int:
        assert own_task() not in kept
        for task in kept:
            task.cancel()
        return await waits()

    def cancel_soon(ctx: Context) -> str:
        asyncio.get_running_loop().call_soon(own_task().cancel)
        return "x"

    flow = durable("flow").step("keep", keep).step("quick", one).step("kept", keep_and_wait).step("open", leave_open)
    flow.step("waits", waits).route("route", cancel_soon, {"x": waits}).step("cancel", cancel_kept).step("last", waits)
    ran = await runner(flow)
    assert ran.results["last"] == 2
    assert ran.results["cancel"] == 2
    await asyncio.wait(background)


async def test_an_own_timeout_that_runs_out_is_the_handlers_own_error_and_not_the_policys(runner: Runner) -> None:
    async def handler(ctx: Context) -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    failure = (await runner(durable("flow").step("a", handler, max_retries=0, timeout=60))).failure
    assert failure.type == "TimeoutError"
    assert "the attempt ran longer" not in failure.message


async def test_a_stop_that_a_handler_turns_into_an_error_is_no_attempt(url: str) -> None:
    """Neither is one that it swallows: a cancelled handler's result or error does not count."""
    begun, attempts = asyncio.Event(), list[int]()

    async def handler(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        begun.set()
        if len(attempts) > 2:
            return "whole"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if len(attempts) == 1:
                raise ConnectionError("cut off") from None
        return "half"

    flow = durable("flow").step("a", handler)
    async with Durable(url, [flow]) as app:
        run_id = (await app.start(flow)).run_id
        for _ in range(2):
            async with app.worker(grace=0):
                await begun.wait()
            begun.clear()
        async with app.worker():
            assert await app.result(run_id, timeout=PATIENCE) == {"a": "whole"}
        (entry,) = await app.journal(run_id)
    assert (entry.attempt, attempts) == (1, [1, 1, 1])


@pytest.mark.parametrize("nodes", ["step", "parallel"])
@pytest.mark.parametrize("then", ["raise", "swallow", "convert"])
async def test_a_cancel_of_who_called_run_is_passed_on_at_once_and_nothing_is_tried_again_or_undone(
    nodes: str, then: str
) -> None:
    begun, calls, undone = asyncio.Event(), list[int](), list[str]()

    async def handler(ctx: Context) -> int:
        calls.append(ctx.attempt)
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if then == "raise" or len(calls) > 1:
                raise
            if then == "convert":
                raise ConnectionError("cut off") from None
        return 1

    flow = durable("flow").step("before", one, compensate=lambda ctx: undone.append(ctx.step))
    if nodes == "step":
        flow.step("a", handler, retry_backoff=0)
    else:
        flow.parallel("all", {"a": handler, "b": waits}, retry_backoff=0)
    flow.step("after", lambda ctx: calls.append(0))
    running = asyncio.create_task(flow.run())
    await begun.wait()
    running.cancel()
    await asyncio.wait({running}, timeout=PATIENCE)
    running.cancel()
    await asyncio.wait({running}, timeout=PATIENCE)
    assert running.cancelled()
    assert (calls, undone) == ([1], [])


async def test_a_task_that_was_cancelled_once_before_can_run_a_workflow_whose_handler_cancels_itself() -> None:
    async def clean_up() -> Any:
        own_task().cancel()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert own_task().cancelling() == 1
            return (await durable("flow").step("a", swallow).step("b", waits).run()).results

    assert await asyncio.create_task(clean_up()) == {"a": "fine", "b": 2}


async def test_a_run_whose_own_task_is_cancelled_by_other_code_is_given_back(url: str) -> None:
    """Code that cancels all tasks cancels the engine's, too; on `sqlite://` nothing else would find the run again."""
    await given_back_when_cancelled(url, when=None)


async def test_a_run_with_a_condition_whose_own_task_is_cancelled_by_other_code_is_given_back(url: str) -> None:
    await given_back_when_cancelled(url, when=lambda ctx: True)


async def given_back_when_cancelled(url: str, when: Callable[..., Any] | None) -> None:
    gate = Gate("done")
    flow = durable("flow").step("a", gate.handler, when=when)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await gate.entered()
        (drive,) = [task for task in asyncio.all_tasks() if task.get_name() == f"stepwell-run-{run_id}"]
        drive.cancel()
        await gate.entered(2)
        gate.let()
        assert await app.result(run_id, timeout=PATIENCE) == {"a": "done"}
        (entry,) = await app.journal(run_id)
    assert (entry.status, gate.attempts) == ("completed", [1, 1])
