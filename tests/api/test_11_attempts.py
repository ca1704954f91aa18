"""Policy, the attempts: how many, which errors are tried again, Retry and Abort, and what is no failed attempt."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Context, PayloadError, Retry, durable
from tests.api.handlers import LineDownError, Spy, nothing
from tests.api.runs import ended, work_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell import Workflow
    from tests.api.runs import OnSqlite, Runner


class NoSuchCardError(LineDownError):
    """A failure that no retry mends."""


class Raiser:
    """A handler, in any node, that raises what it is given and remembers its attempts."""

    def __init__(self, make: Callable[[], Exception]) -> None:
        self.make = make
        self.attempts: list[int] = []

    async def handle(self, ctx: Context) -> None:
        self.attempts.append(ctx.attempt)
        raise self.make()

    async def iterate(self, input: Any, ctx: Context) -> None:
        await self.handle(ctx)


NODES: dict[str, Callable[..., Workflow]] = {
    "step": lambda spy, **policy: durable("order").step("node", spy.handle, **policy),
    "parallel": lambda spy, **policy: durable("order").parallel("all", {"node": spy.handle}, **policy),
    "route": lambda spy, **policy: durable("order").route("node", lambda ctx: "b", {"b": spy.handle}, **policy),
    "loop": lambda spy, **policy: durable("order").loop("node", spy.iterate, max_iterations=1, **policy),
}


@pytest.mark.parametrize("kind", NODES)
async def test_by_default_there_are_three_retries(runner: Runner, kind: str) -> None:
    raiser = Raiser(lambda: LineDownError("down"))
    outcome = await runner(NODES[kind](raiser, retry_backoff=0.01))
    assert (outcome.failure.node, outcome.failure.type) == ("node", "LineDownError")
    assert raiser.attempts == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("retries", [0, 1, 5])
async def test_max_retries_counts_the_attempts_after_the_first(runner: Runner, kind: str, retries: int) -> None:
    raiser = Raiser(lambda: LineDownError("down"))
    await runner(NODES[kind](raiser, max_retries=retries, retry_backoff=0.001))
    assert raiser.attempts == list(range(1, retries + 2))


@pytest.mark.parametrize("kind", NODES)
async def test_a_success_in_the_last_attempt_is_a_success(runner: Runner, kind: str) -> None:
    spy = Spy("at last", failures=2)
    assert (await runner(NODES[kind](spy, max_retries=2, retry_backoff=0.01))).results == {"node": "at last"}


async def test_the_failure_is_that_of_the_last_attempt(runner: Runner) -> None:
    async def charge(ctx: Context) -> None:
        raise LineDownError(f"attempt {ctx.attempt}")

    outcome = await runner(durable("order").step("charge", charge, max_retries=2, retry_backoff=0.01))
    assert outcome.failure.message == "attempt 3"


# Which errors are tried again.


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        ({"retry_on": LineDownError}, 3),
        ({"retry_on": NoSuchCardError}, 3),
        ({"retry_on": (KeyError, LineDownError)}, 3),
        ({"retry_on": ()}, 1),
        ({"retry_on": KeyError}, 1),
        ({"retry_on": (KeyError, OSError)}, 1),
        ({"give_up_on": KeyError}, 3),
        ({"give_up_on": NoSuchCardError}, 1),
        ({"give_up_on": LineDownError}, 1),
        ({"give_up_on": (KeyError, NoSuchCardError)}, 1),
        ({"retry_on": NoSuchCardError, "give_up_on": LineDownError}, 1),
        ({"retry_on": LineDownError, "give_up_on": NoSuchCardError}, 1),
    ],
)
async def test_retry_on_and_give_up_on_choose_by_class_and_giving_up_wins(
    runner: Runner, policy: dict[str, Any], attempts: int
) -> None:
    raiser = Raiser(lambda: NoSuchCardError("no such card"))
    await runner(durable("order").step("charge", raiser.handle, max_retries=2, retry_backoff=0.01, **policy))
    assert len(raiser.attempts) == attempts


async def test_an_error_that_is_given_up_is_journaled_failed_at_its_attempt(sqlite: OnSqlite) -> None:
    errors = iter([LineDownError("down"), NoSuchCardError("no such card")])
    raiser = Raiser(lambda: next(errors))
    order = durable("order").step("charge", raiser.handle, retry_backoff=0.01, give_up_on=NoSuchCardError)
    assert (await sqlite(order)).rows() == [("step", "retrying", 1), ("step", "failed", 2)]


async def test_retry_on_may_name_the_timeout(runner: Runner) -> None:
    attempts: list[int] = []

    async def charge(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return "paid"

    order = durable("order").step("charge", charge, timeout=0.05, retry_on=TimeoutError, retry_backoff=0.01)
    assert (await runner(order)).results == {"charge": "paid"}
    assert attempts == [1, 2]


# Retry and Abort.


@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("after", [0.01, 0, timedelta(milliseconds=10)])
async def test_retry_names_its_own_delay_and_counts_like_any_other(runner: Runner, kind: str, after: Any) -> None:
    raiser = Raiser(lambda: Retry("not yet", after=after))
    async with asyncio.timeout(60):
        outcome = await runner(NODES[kind](raiser, max_retries=2, retry_backoff=3600))
    assert raiser.attempts == [1, 2, 3]
    assert (outcome.failure.node, outcome.failure.type, outcome.failure.message) == ("node", "Retry", "not yet")


async def test_retry_is_journaled_as_any_failed_attempt(sqlite: OnSqlite) -> None:
    raiser = Raiser(lambda: Retry("not yet", after=0.01))
    kept = await sqlite(durable("order").step("charge", raiser.handle, max_retries=1, retry_backoff=3600))
    assert kept.rows() == [("step", "retrying", 1), ("step", "failed", 2)]
    error = kept.journal[0].error
    assert error is not None
    assert (error.type, error.message) == ("Retry", "not yet")


@pytest.mark.parametrize("kind", NODES)
async def test_abort_gives_up_at_once(runner: Runner, kind: str) -> None:
    raiser = Raiser(lambda: Abort("sold out"))
    outcome = await runner(NODES[kind](raiser))
    assert raiser.attempts == [1]
    assert (outcome.failure.node, outcome.failure.type, outcome.failure.message) == ("node", "Abort", "sold out")


async def test_abort_gives_up_whatever_retry_on_says(runner: Runner) -> None:
    raiser = Raiser(lambda: Abort("sold out"))
    await runner(durable("order").step("charge", raiser.handle, retry_on=Abort, retry_backoff=0.01))
    assert raiser.attempts == [1]


@pytest.mark.parametrize("kind", NODES)
async def test_a_payload_error_gives_up_at_once(runner: Runner, kind: str) -> None:
    spy = Spy({1, 2})
    outcome = await runner(NODES[kind](spy))
    assert spy.attempts == [1]
    assert (outcome.failure.node, outcome.failure.type) == ("node", PayloadError.__name__)


# Errors in resolvers, mappers and conditions.


def poll(**functions: Any) -> Workflow:
    options = {"until": lambda result, iteration: False, **functions}
    order = durable("order")
    order.loop("node", lambda input, ctx: input, max_iterations=2, retry_backoff=0.01, **options)
    return order


FUNCTIONS: dict[str, Callable[[Callable[..., Any]], Workflow]] = {
    "resolver": lambda function: durable("order").route("node", function, {"b": nothing}, retry_backoff=0.01),
    "when": lambda function: durable("order").step("node", nothing, when=function, retry_backoff=0.01),
    "map_input": lambda function: poll(map_input=function),
    "until": lambda function: poll(until=function),
    "feedback": lambda function: poll(feedback=function),
    "pause": lambda function: poll(pause=function),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
async def test_an_error_in_a_function_of_the_node_is_a_failed_attempt(runner: Runner, kind: str) -> None:
    calls: list[Any] = []

    def down(*given: Any) -> Any:
        calls.append(given)
        raise LineDownError(f"{kind} is down")

    outcome = await runner(FUNCTIONS[kind](down))
    failure = outcome.failure
    assert (failure.node, failure.type, failure.message) == ("node", "LineDownError", f"{kind} is down")
    assert len(calls) == 4


@pytest.mark.parametrize("kind", FUNCTIONS)
async def test_a_function_that_aborts_fails_the_node_at_once(runner: Runner, kind: str) -> None:
    calls: list[Any] = []

    def never(*given: Any) -> Any:
        calls.append(given)
        raise Abort("never")

    assert (await runner(FUNCTIONS[kind](never))).failure.type == "Abort"
    assert len(calls) == 1


async def test_an_error_in_until_makes_its_iteration_run_again(sqlite: OnSqlite) -> None:
    spy = Spy("polled")
    asked: list[int] = []

    def until(result: str, iteration: int) -> bool:
        asked.append(iteration)
        if len(asked) == 1:
            raise LineDownError("until is down")
        return True

    kept = await sqlite(durable("order").loop("poll", spy.iterate, max_iterations=5, until=until, retry_backoff=0.01))
    assert [(call.iteration, call.attempt) for call in spy.calls] == [(1, 1), (1, 2)]
    assert kept.rows() == [("step", "retrying", 1), ("step", "completed", 2)]


# What is no failed attempt.


async def test_a_workers_stop_is_no_failed_attempt(sqlite: OnSqlite) -> None:
    spy = Spy("paid", failures=1)
    go_on = asyncio.Event()

    async def charge(ctx: Context) -> Any:
        result = await spy.handle(ctx)
        if not go_on.is_set():
            await asyncio.Event().wait()
        return result

    order = durable("order").step("charge", charge, max_retries=1, retry_backoff=0.01)
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        await work_until(app, lambda: len(spy.calls) == 2)
        await work_until(app, lambda: len(spy.calls) == 3)
        go_on.set()
        async with app.worker():
            kept = await ended(app, run_id)
    assert kept.results == {"charge": "paid"}
    assert spy.attempts == [1, 2, 2, 2]
    assert len(set(spy.keys)) == 1
    assert kept.rows() == [("step", "retrying", 1), ("step", "completed", 2)]
