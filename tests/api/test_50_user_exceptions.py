"""Whatever a function of the user's raises is journaled by its own type and counts as an attempt."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Context, Retry, Workflow, durable
from tests.api.runs import KeptOutcome
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.runs import OnSqlite, Runner

NO_ITEMS: list[int] = []


class OwnError(BaseException):
    """An exception of the user's that is no Exception."""


class Once:
    """A function that slips at its first call, as `next()` without a default does, and then gives its value."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self.calls = 0

    def __call__(self, *given: Any) -> Any:
        """Slip, or give the value."""
        self.calls += 1
        return next(iter(NO_ITEMS)) if self.calls == 1 else self._value


class AskedForTruth:
    """An answer that slips when it is asked whether it is true."""

    calls = 0

    def __bool__(self) -> bool:
        type(self).calls += 1
        return bool(next(iter(NO_ITEMS)) if self.calls == 1 else 1)


async def one(ctx: Context) -> int:
    return 1


async def turn(value: Any, ctx: Context) -> int:
    return 1


def asking(place: str, slip: Once) -> Workflow:
    """A workflow that calls the function in that place."""
    flow = durable("flow")
    match place:
        case "handler":
            flow.step("a", slip, retry_backoff=0)
        case "when":
            flow.step("a", one, when=slip, retry_backoff=0)
        case "resolver":
            flow.route("a", slip, {"x": one}, retry_backoff=0)
        case "sleep":
            flow.sleep("a", slip)
        case "until":
            flow.loop("a", turn, max_iterations=2, until=slip, retry_backoff=0)
        case "feedback":
            flow.loop("a", turn, max_iterations=2, feedback=slip, retry_backoff=0)
        case "pause":
            flow.loop("a", turn, max_iterations=2, pause=slip, retry_backoff=0)
        case _:
            flow.loop("a", turn, max_iterations=1, map_input=slip, retry_backoff=0)
    return flow


PLACES = {"handler": 1, "when": True, "resolver": "x", "until": True, "feedback": 1, "pause": 0, "map_input": 1}


@pytest.mark.parametrize("place", PLACES)
async def test_a_stop_iteration_is_a_failed_attempt_wherever_it_is_raised(runner: Runner, place: str) -> None:
    slip = Once(PLACES[place])
    ran = await runner(asking(place, slip))
    assert "a" in ran.results
    assert slip.calls > 1
    if isinstance(ran, KeptOutcome):
        first = ran.journal[0]
        assert (first.status, first.error and first.error.type) == ("retrying", "StopIteration")
        assert "next(iter(NO_ITEMS))" in (first.error.traceback if first.error else "")


async def test_a_stop_iteration_of_a_sleeps_or_childs_function_is_a_failed_attempt(sqlite: OnSqlite) -> None:
    child = durable("child").step("one", one)
    for flow in (durable("s").sleep("a", Once(0)), durable("c").child_workflow("a", "child", map_input=Once(1))):
        async with sqlite.open(flow, child) as app, app.worker():
            run_id = (await app.start(flow)).run_id
            (first, *_) = await eventually(partial(app.journal, run_id))
        assert (first.node, first.status, first.attempt) == ("a", "retrying", 1)
        assert first.error is not None
        assert first.error.type == "StopIteration"


async def test_a_stop_iteration_of_an_async_handler_is_journaled_by_its_own_type(runner: Runner) -> None:
    async def slip(ctx: Context) -> Any:
        await asyncio.sleep(0)
        return next(iter(NO_ITEMS))

    async def said(ctx: Context) -> Any:
        raise StopIteration("no more cards")

    for handler, message in ((slip, ""), (said, "no more cards")):
        failure = (await runner(durable("flow").step("a", handler, max_retries=0))).failure
        assert (failure.type, failure.message) == ("StopIteration", message)


async def test_an_answer_that_raises_when_it_is_asked_for_its_truth_is_a_failed_attempt(runner: Runner) -> None:
    AskedForTruth.calls = 0
    flow = durable("flow").step("a", one, when=lambda ctx: AskedForTruth(), retry_backoff=0)
    ran = await runner(flow)
    assert ran.results == {"a": 1}
    assert AskedForTruth.calls == 2


def raising(error: type[BaseException], how: str) -> Callable[[Any], Any]:
    def plain(ctx: Context) -> Any:
        raise error("the reason")

    async def at_once(ctx: Context) -> Any:
        raise error("the reason")

    async def later(ctx: Context) -> Any:
        await asyncio.sleep(0)
        raise error("the reason")

    return {"plain": plain, "at once": at_once, "later": later}[how]


RAISED = (GeneratorExit, SystemExit, asyncio.CancelledError, StopAsyncIteration, OwnError, BaseException)


@pytest.mark.parametrize("how", ["plain", "at once", "later"])
@pytest.mark.parametrize("error", RAISED)
async def test_what_is_no_exception_fails_its_step_by_its_own_type_too(
    runner: Runner, error: type[BaseException], how: str
) -> None:
    undone = list[str]()
    flow = durable("flow").step("before", one, compensate=lambda ctx: undone.append(ctx.step))
    flow.parallel("all", {"bad": raising(error, how), "good": one}, max_retries=0)
    failure = (await runner(flow)).failure
    assert (failure.node, failure.type, failure.message) == ("bad", error.__name__, "the reason")
    assert undone == ["before"]


@pytest.mark.parametrize("error", [GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("how", ["plain", "at once", "later"])
async def test_what_is_no_exception_is_tried_again_where_retry_on_says_so(
    runner: Runner, error: type[BaseException], how: str
) -> None:
    calls = list[int]()
    fails = raising(error, how)

    async def handler(ctx: Context) -> int:
        calls.append(ctx.attempt)
        if ctx.attempt == 1:
            given = fails(ctx)
            await given
        return ctx.attempt

    flow = durable("flow").step("a", handler, retry_on=(Exception, error), retry_backoff=0)
    assert (await runner(flow)).results == {"a": 2}
    assert calls == [1, 2]


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit, asyncio.CancelledError, SystemExit])
async def test_a_compensator_that_raises_it_is_journaled_failed_and_the_others_still_run(
    runner: Runner, error: type[BaseException]
) -> None:
    flow = durable("flow")
    flow.step("first", one, compensate=lambda ctx: None)
    flow.step("second", one, compensate=raising(error, "later"), max_retries=0)
    flow.step("third", one, compensate=raising(error, "plain"), max_retries=0)
    flow.step("fails", raising(ValueError, "plain"), max_retries=0)
    ran = await runner(flow)
    assert ran.compensated == ["first"]
    if isinstance(ran, KeptOutcome):
        failed = [e.error.type for e in ran.journal if e.kind == "compensate" and e.error is not None]
        assert failed == [error.__name__] * 2


async def test_an_interrupt_raised_in_a_handlers_thread_is_the_handlers_failure(runner: Runner) -> None:
    """The interpreter raises a Ctrl-C in the main thread alone."""
    failure = (await runner(durable("flow").step("a", raising(KeyboardInterrupt, "plain"), max_retries=0))).failure
    assert (failure.type, failure.message) == ("KeyboardInterrupt", "the reason")


@pytest.mark.parametrize("how", ["at once", "later"])
def test_an_interrupt_on_the_event_loop_ends_the_loop_and_is_no_failure_of_the_handler(
    sqlite: OnSqlite, how: str
) -> None:
    """It is taken for a Ctrl-C, and the run is made again by the next worker, attempts from where they were."""
    attempts = list[int]()
    interrupt = raising(KeyboardInterrupt, how)

    async def handler(ctx: Context) -> int:
        attempts.append(ctx.attempt)
        return await interrupt(ctx) if len(attempts) == 1 else 1

    flow = durable("flow").step("a", handler)

    async def work() -> None:
        async with sqlite.open(flow) as app, app.worker(grace=0):
            await app.result((await app.start(flow, key="only")).run_id, timeout=PATIENCE)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(work())
    asyncio.run(work())
    assert attempts == [1, 1]


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", errors)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (group(ValueError("x"), Abort("no more")), 1),
        (group(ValueError("x"), group(OSError(), Abort("no more"))), 1),
        (group(ValueError("x"), KeyError("y")), 1),
        (group(ValueError("x"), OSError("y")), 3),
        (group(ValueError("x"), SystemExit(1)), 1),
    ],
)
async def test_one_exception_of_a_group_that_gives_up_is_enough(
    runner: Runner, error: BaseException, attempts: int
) -> None:
    calls = list[int]()

    async def handler(ctx: Context) -> None:
        calls.append(ctx.attempt)
        raise error

    flow = durable("flow").step("a", handler, max_retries=2, retry_backoff=0, give_up_on=KeyError)
    assert "several" in (await runner(flow)).failure.message
    assert calls == list(range(1, attempts + 1))


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (group(ConnectionError(), group(ConnectionResetError())), 2),
        (group(ConnectionError(), ValueError()), 1),
        (group(ConnectionError(), Retry("again")), 2),
    ],
)
async def test_a_group_is_retried_where_retry_on_takes_all_that_is_in_it(
    runner: Runner, error: BaseException, attempts: int
) -> None:
    calls = list[int]()

    def handler(ctx: Context) -> None:
        calls.append(ctx.attempt)
        raise error

    flow = durable("flow").step("a", handler, max_retries=1, retry_backoff=0, retry_on=ConnectionError)
    await runner(flow)
    assert len(calls) == attempts


async def test_of_the_delays_that_a_group_names_the_longest_is_taken(sqlite: OnSqlite) -> None:
    async def handler(ctx: Context) -> None:
        raise ExceptionGroup("both", [Retry("soon", after=5), Retry("late", after=5000), ValueError("x")])

    flow = durable("flow").step("a", handler)
    async with sqlite.open(flow) as app, app.worker():
        run_id = (await app.start(flow)).run_id

        async def asleep() -> Any:
            return (await app.status(run_id)).wake_at

        wake_at = await eventually(asleep)
        (entry,) = await app.journal(run_id)
    assert 4990 < (wake_at - entry.finished_at).total_seconds() < 5010
