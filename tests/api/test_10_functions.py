"""Functions: async or plain, awaitables awaited; plain handlers and compensators in threads, the rest on the loop."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, durable
from tests.api.handlers import Spy, fail, nothing
from tests.api.runs import ended
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.api.runs import OnSqlite, Runner


async def add_async(ctx: Context) -> int:
    await asyncio.sleep(0)
    return int(ctx.input) + 1


def add_plain(ctx: Context) -> int:
    return int(ctx.input) + 1


def add_by_awaitable(ctx: Context) -> Awaitable[int]:
    return add_async(ctx)


async def add(addend: int, ctx: Context) -> int:
    return int(ctx.input) + addend


class Adder:
    async def __call__(self, ctx: Context) -> int:
        return int(ctx.input) + 1

    async def method(self, ctx: Context) -> int:
        return int(ctx.input) + 1


HANDLERS: dict[str, Any] = {
    "async def": add_async,
    "plain": add_plain,
    "lambda": lambda ctx: ctx.input + 1,
    "plain giving an awaitable": add_by_awaitable,
    "partial of an async function": functools.partial(add, 1),
    "method": Adder().method,
    "object with async call": Adder(),
}


@pytest.mark.parametrize("kind", HANDLERS)
async def test_a_handler_is_any_function_in_every_node(runner: Runner, kind: str) -> None:
    handler = HANDLERS[kind]
    order = (
        durable("order")
        .step("one", handler)
        .parallel("both", {"two": handler, "three": Branch(handler)})
        .route("four", lambda ctx: "b", {"b": handler})
    )
    assert (await runner(order, 1)).results == {"one": 2, "two": 2, "three": 2, "four": 2}


LOOP_HANDLERS: dict[str, Any] = {
    "plain": lambda input, ctx: input + 1,
    "plain giving an awaitable": lambda input, ctx: asyncio.sleep(0, input + 1),
}


@pytest.mark.parametrize("kind", LOOP_HANDLERS)
async def test_a_loops_handler_is_any_function(runner: Runner, kind: str) -> None:
    order = durable("order").loop("count", LOOP_HANDLERS[kind], max_iterations=3, feedback=lambda result: result)
    assert (await runner(order, 0)).results == {"count": 3}


@pytest.mark.parametrize("kind", ["async def", "plain", "plain giving an awaitable"])
async def test_a_compensator_is_any_function(runner: Runner, kind: str) -> None:
    undone: list[str] = []

    async def undo_async(ctx: Context) -> None:
        await asyncio.sleep(0)
        undone.append(ctx.step)

    def undo_by_awaitable(ctx: Context) -> Awaitable[None]:
        return undo_async(ctx)

    kinds: dict[str, Any] = {
        "async def": undo_async,
        "plain": lambda ctx: undone.append(ctx.step),
        "plain giving an awaitable": undo_by_awaitable,
    }
    order = durable("order").step("reserve", nothing, compensate=kinds[kind]).step("charge", fail, max_retries=0)
    assert (await runner(order)).compensated == ["reserve"]
    assert undone == ["reserve"]


async def test_awaitables_of_plain_resolvers_conditions_and_mappers_are_awaited(runner: Runner) -> None:
    async def give(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    order = (
        durable("order")
        .step("skipped", nothing, when=lambda ctx: give(False))  # noqa: FBT003 - the value a condition gives
        .route("ship", lambda ctx: give("air"), {"air": lambda ctx: "flown", "sea": nothing})
        .loop(
            "poll",
            lambda input, ctx: input,
            max_iterations=5,
            map_input=lambda ctx: give(1),
            feedback=lambda result: give(result + 1),
            until=lambda result, iteration: give(result == 3),
            pause=lambda result, iteration: give(0.001),
        )
        .sleep("nap", lambda ctx: give(0.001))
    )
    assert (await runner(order)).results == {"skipped": None, "ship": "flown", "poll": 3, "nap": None}


# Where they run.


async def test_plain_handlers_and_compensators_run_in_threads_async_ones_on_the_loop(runner: Runner) -> None:
    where: dict[str, int] = {}

    def plain(ctx: Context) -> None:
        where[f"plain {ctx.step}"] = threading.get_ident()

    def plain_undo(ctx: Context) -> None:
        where["plain undo"] = threading.get_ident()

    async def on_loop(ctx: Context) -> None:
        where["async"] = threading.get_ident()

    def iterate(input: Any, ctx: Context) -> None:
        where["iterate"] = threading.get_ident()

    order = (
        durable("order")
        .step("step", plain, compensate=plain_undo)
        .parallel("both", {"entry": plain})
        .route("route", lambda ctx: "b", {"b": plain})
        .loop("loop", iterate, max_iterations=1)
        .step("async", on_loop)
        .step("last", fail, max_retries=0)
    )
    await runner(order)
    here = threading.get_ident()
    assert where.pop("async") == here
    assert set(where) == {"plain step", "plain entry", "plain route", "iterate", "plain undo"}
    assert here not in where.values()


async def test_plain_resolvers_conditions_and_mappers_run_on_the_event_loop(runner: Runner) -> None:
    where: dict[str, int] = {}

    def note(what: str, value: Any) -> Any:
        where[what] = threading.get_ident()
        asyncio.get_running_loop()
        return value

    order = (
        durable("order")
        .step("step", nothing, when=lambda ctx: note("when", True))  # noqa: FBT003 - the value a condition gives
        .route("route", lambda ctx: note("resolver", "b"), {"b": nothing})
        .loop(
            "loop",
            lambda input, ctx: input,
            max_iterations=2,
            map_input=lambda ctx: note("map_input", 1),
            feedback=lambda result: note("feedback", result),
            until=lambda result, iteration: note("until", iteration == 2),
            pause=lambda result, iteration: note("pause", 0.001),
        )
        .sleep("nap", lambda ctx: note("sleep", 0.001))
    )
    assert (await runner(order)).results["loop"] == 1
    assert set(where) == {"when", "resolver", "map_input", "feedback", "until", "pause", "sleep"}
    assert set(where.values()) == {threading.get_ident()}


async def test_a_plain_handler_does_not_hold_up_the_loop(runner: Runner) -> None:
    released = threading.Event()

    def plain(ctx: Context) -> bool:
        return released.wait(timeout=20)

    async def release(ctx: Context) -> None:
        released.set()

    results = (await runner(durable("order").parallel("both", {"plain": plain, "release": release}))).results
    assert results["plain"] is True


# Threads of a worker.


async def test_at_most_threads_plain_handlers_run_at_a_time(sqlite: OnSqlite) -> None:
    lock = threading.Lock()
    running, most = 0, 0

    def plain(ctx: Context) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1

    order = durable("order").parallel("all", {f"entry{n}": plain for n in range(8)})
    async with sqlite.open(order) as app:
        run_id = (await app.start(order)).run_id
        async with app.worker(threads=2):
            assert len((await ended(app, run_id)).results) == 8
    assert most == 2


async def test_waiting_for_a_thread_is_no_part_of_the_timeout(sqlite: OnSqlite) -> None:
    holding, release = threading.Event(), threading.Event()

    def hold(ctx: Context) -> None:
        holding.set()
        release.wait(timeout=20)

    waiting = Spy("ran")
    holder = durable("holder").step("hold", hold)
    order = durable("order").step("wait", waiting.decide, timeout=0.5, max_retries=0)
    async with sqlite.open(holder, order) as app:
        first = (await app.start(holder)).run_id
        async with app.worker(threads=1):
            await eventually(holding.is_set)
            second = (await app.start(order)).run_id

            async def claimed() -> bool:
                return (await app.status(second)).status == "running"

            await eventually(claimed)
            await asyncio.sleep(0.8)  # longer than the timeout that must not run out meanwhile
            assert waiting.calls == []
            release.set()
            assert (await ended(app, second)).results == {"wait": "ran"}
            await ended(app, first)
    assert waiting.attempts == [1]


async def test_what_a_thread_returns_after_the_timeout_is_dropped_and_the_retry_does_not_wait(runner: Runner) -> None:
    release, returned = threading.Event(), threading.Event()

    def slow_at_first(ctx: Context) -> str:
        if ctx.attempt == 1:
            release.wait(timeout=20)
            returned.set()
            return "late"
        return "in time"

    async def close(ctx: Context) -> bool:
        before = returned.is_set()
        release.set()
        await eventually(returned.is_set)
        return before

    order = durable("order").step("slow", slow_at_first, timeout=0.1, retry_backoff=0.01).step("close", close)
    assert (await runner(order)).results == {"slow": "in time", "close": False}
