"""Async handlers that are not quite what they seem: whose error it is, whose time is over, and what is closed."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from stepwell import durable
from tests.api.handlers import Spy, nothing
from tests.api.runs import InMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell import Context


class Compiled:
    """Has the looks of an async function, as a compiled one does, whatever it gives."""

    def __init__(self, call: Callable[[Context], Any]) -> None:
        self._call = call
        for name in ("__name__", "__code__", "__defaults__", "__kwdefaults__", "__annotations__"):
            setattr(self, name, getattr(nothing, name))

    def __call__(self, ctx: Context) -> Any:
        return self._call(ctx)


async def test_what_an_async_handler_gives_is_awaited_although_it_is_no_coroutine() -> None:
    async def pay() -> str:
        await asyncio.sleep(0)
        return "paid"

    order = durable("order").step("charge", Compiled(lambda ctx: asyncio.ensure_future(pay())))
    assert (await InMemory()(order)).results == {"charge": "paid"}


async def test_a_timeout_error_of_the_handlers_own_is_not_taken_for_the_attempts_end_of_time() -> None:
    """Else nobody could tell a bank that does not answer from a step that takes too long."""

    async def charge(ctx: Context) -> None:
        await asyncio.sleep(0)
        raise TimeoutError("the bank did not answer")

    failure = (await InMemory()(durable("order").step("charge", charge, timeout=3600, max_retries=0))).failure
    assert (failure.type, failure.message) == ("TimeoutError", "the bank did not answer")


async def test_a_handler_that_swallows_its_cancellation_when_its_time_is_over_has_timed_out_all_the_same() -> None:
    async def charge(ctx: Context) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return "late"

    failure = (await InMemory()(durable("order").step("charge", charge, timeout=0.05, max_retries=0))).failure
    assert (failure.type, failure.message) == ("TimeoutError", "the attempt ran longer than 0.05 s")


async def test_a_run_that_is_dropped_half_way_closes_its_handler_at_once_and_begins_no_other() -> None:
    """An event loop that ends for good drops what it drove; what a handler holds is not to wait for the collector."""

    async def pay() -> None:
        with contextlib.suppress(GeneratorExit):
            await asyncio.Event().wait()

    charge, ship = pay(), Spy()
    run = durable("order").step("charge", Compiled(lambda ctx: charge)).step("ship", ship.handle).run()
    run.send(None)
    assert inspect.getcoroutinestate(charge) == inspect.CORO_SUSPENDED
    run.close()
    assert inspect.getcoroutinestate(charge) == inspect.CORO_CLOSED
    assert ship.calls == []
