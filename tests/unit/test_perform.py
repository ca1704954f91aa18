"""Async handlers that are not quite what they seem: whose error it is, whose time is over, and what is closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stepwell import durable
from tests.api.handlers import Spy
from tests.api.runs import InMemory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell import Context


class Compiled:
    """Has the looks of an async function, as a compiled one does, and gives an awaitable that is no coroutine."""

    def __init__(self, function: Callable[[Context], Awaitable[Any]]) -> None:
        self._function = function
        for name in ("__name__", "__code__", "__defaults__", "__kwdefaults__", "__annotations__"):
            setattr(self, name, getattr(function, name))

    def __call__(self, ctx: Context) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._function(ctx))


async def test_what_an_async_handler_gives_is_awaited_although_it_is_no_coroutine() -> None:
    async def charge(ctx: Context) -> str:
        await asyncio.sleep(0)
        return "paid"

    assert (await InMemory()(durable("order").step("charge", Compiled(charge)))).results == {"charge": "paid"}


async def test_a_timeout_error_of_the_handlers_own_is_not_taken_for_the_attempts_end_of_time() -> None:
    """Else nobody could tell a bank that does not answer from a step that takes too long."""

    async def charge(ctx: Context) -> None:
        await asyncio.sleep(0)
        raise TimeoutError("the bank did not answer")

    failure = (await InMemory()(durable("order").step("charge", charge, timeout=3600, max_retries=0))).failure
    assert (failure.type, failure.message) == ("TimeoutError", "the bank did not answer")


async def test_a_handler_that_swallows_its_cancellation_when_its_time_is_over_has_timed_out_all_the_same() -> None:
    async def charge(ctx: Context) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "late"

    failure = (await InMemory()(durable("order").step("charge", charge, timeout=0.05, max_retries=0))).failure
    assert (failure.type, failure.message) == ("TimeoutError", "the attempt ran longer than 0.05 s")


async def test_a_run_that_is_dropped_half_way_closes_its_handler_and_begins_no_other() -> None:
    """An event loop that goes for good closes what it drove; a handler may hold its breath, but not the run."""
    seen, later = list[type[BaseException]](), Spy()

    async def charge(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        except BaseException as error:  # noqa: BLE001  it swallows whatever comes
            seen.append(type(error))

    run = durable("order").step("charge", charge).step("ship", later.handle).run()
    run.send(None)
    run.close()
    assert seen == [GeneratorExit]
    assert later.calls == []
