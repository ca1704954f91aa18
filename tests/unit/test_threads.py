"""Calls of plain handlers that nobody waits for any more, and what they may not take with them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import durable
from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.threads import ClosedError, Threads
from tests.api.runs import InMemory
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell import Context


class Threadless(SystemRuntime):
    """Starts no thread: what waits for one waits for ever."""

    def start_thread(self, target: Callable[[], None], name: str) -> Any:
        """Is never granted."""


class Granting(SystemRuntime):
    """Starts threads, from the second one on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def start_thread(self, target: Callable[[], None], name: str) -> Any:
        """Raises what the interpreter raises where the system grants no thread, the first time."""
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("can't start new thread")
        return super().start_thread(target, name)


async def test_a_thread_that_the_system_does_not_grant_takes_none_of_the_others_away() -> None:
    threads = Threads(Granting(), 1)
    try:
        with pytest.raises(RuntimeError):
            threads.start(int)
        async with asyncio.timeout(PATIENCE):
            assert (await threads.start(lambda: 7).future).value == 7
    finally:
        threads.close()


async def test_all_who_wait_for_a_thread_are_turned_away_though_one_gave_up_and_the_threads_were_told_to_end() -> None:
    threads = Threads(Threadless(), 1)
    gone, first = threads.start(int), threads.start(int)
    threads.close()
    last = threads.start(int)
    gone.future.cancel()
    threads.abandon(gone)
    threads.turn_away()
    for ticket in (first, last):
        assert isinstance(ticket.future.exception(), ClosedError)


async def test_i3_a_call_that_was_given_up_before_a_thread_took_it_is_never_made() -> None:
    """Its run may be another worker's by then, which makes the call itself."""
    threads, let, made = Threads(SystemRuntime(), 1), threading.Event(), list[str]()
    try:
        threads.start(let.wait)
        given_up = threads.start(lambda: made.append("given up"))
        last = threads.start(lambda: made.append("last"))
        threads.abandon(given_up)
        let.set()
        async with asyncio.timeout(PATIENCE):
            await last.future
    finally:
        let.set()
        threads.close()
    assert made == ["last"]


async def test_two_calls_at_once_have_two_threads_although_one_was_idle() -> None:
    threads, both = Threads(SystemRuntime(), 2), threading.Barrier(2)
    try:
        async with asyncio.timeout(PATIENCE):
            await threads.start(int).future
            await eventually(lambda: threads._idle == 1)
            for ticket in [threads.start(lambda: both.wait(PATIENCE)) for _ in range(2)]:
                assert (await ticket.future).error is None
    finally:
        threads.close()


async def test_threads_whose_stuck_calls_have_ended_are_free_again() -> None:
    """Else a worker whose threads were all stuck once would never claim again."""
    threads, let = Threads(SystemRuntime(), 1), threading.Event()
    try:
        stuck = threads.start(let.wait)
        await eventually(lambda: stuck.started is not None)
        threads.abandon(stuck)
        assert threads.is_full_of_stuck
        let.set()
        await eventually(lambda: not threads.is_full_of_stuck)
    finally:
        let.set()
        threads.close()


def test_a_call_that_ends_after_its_event_loop_was_closed_does_not_take_its_thread_with_it() -> None:
    async def begin() -> Threads:
        threads = Threads(SystemRuntime(), 1)
        threads.start(let.wait)
        return threads

    let, made = threading.Event(), threading.Event()
    loop = asyncio.new_event_loop()
    try:
        threads = loop.run_until_complete(begin())
    finally:
        loop.close()
        let.set()
    threads.start(made.set)
    assert made.wait(PATIENCE)
    threads.close()


async def test_a_plain_handler_that_raises_stop_iteration_fails_its_step_by_that_name() -> None:
    """No future takes a StopIteration: the run would wait for its handler for ever."""

    def charge(ctx: Context) -> Any:
        return next(iter(()))

    async with asyncio.timeout(PATIENCE):
        failure = (await InMemory()(durable("order").step("charge", charge, max_retries=0))).failure
    assert (failure.type, failure.message) == ("StopIteration", "")
    assert "return next(iter(()))" in (failure.traceback or "")
