"""Running a user's functions: async ones on the event loop, plain handlers in threads, each attempt within its time."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from stepwell.core.decisions import Call, Ending, Invoke, Tools
    from stepwell.engine.runtime import Runtime
    from stepwell.engine.slots import Slots
    from stepwell.engine.threads import Threads, Ticket

_MICROSECONDS = 1_000_000


class Performer:
    """Carries out calls: it runs their scripts, and the functions these ask for."""

    def __init__(self, runtime: Runtime, slots: Slots, threads: Threads, step_timeout: int) -> None:
        self._runtime = runtime
        self._slots = slots
        self._threads = threads
        self._step_timeout = step_timeout
        self._are_async: dict[int, bool] = {}

    def limit_of(self, timeout: int | None) -> float:
        """How long an attempt may take, in seconds, under a policy's timeout in microseconds."""
        return (self._step_timeout if timeout is None else timeout) / _MICROSECONDS

    async def perform(self, call: Call, tools: Tools) -> Ending:
        """The script's ending; raises what the user's functions raise, and TimeoutError."""
        script = call.script(call, tools)
        attempt = _Time(self._runtime, self.limit_of(call.policy.timeout))
        try:
            request = next(script)
            while True:
                if request.handler:
                    result = await self._handle(request, attempt, call, tools)
                else:
                    result = request.function(*request.arguments)
                    if inspect.isawaitable(result):
                        result = await _within(result, attempt)
                request = script.send(result)
        except StopIteration as stop:
            ending: Ending = stop.value
            return ending
        finally:
            script.close()

    async def _handle(self, request: Invoke, attempt: _Time, call: Call, tools: Tools) -> Any:
        """What the handler gives; waiting for a slot or a thread is not part of the attempt's time."""
        slots = self._slots
        if not slots.take_free():
            began = self._runtime.monotonic()
            await slots.take()
            attempt.waited(self._runtime.monotonic() - began)
            call.started_at = tools.now()
        try:
            function = request.function
            if self._is_async(function):
                result = function(*request.arguments)
            else:
                result = await self._in_thread(partial(function, *request.arguments), attempt)
            if type(result) is CoroutineType or inspect.isawaitable(result):
                return await _within(result, attempt)
            return result
        finally:
            slots.give_back()

    async def _in_thread(self, function: Callable[[], Any], attempt: _Time) -> Any:
        began = self._runtime.monotonic()
        ticket: Ticket = self._threads.start(function)
        try:
            remaining = limit = attempt.left()
            while True:
                done, _ = await asyncio.wait({ticket.future}, timeout=remaining)
                if done:
                    attempt.waited((ticket.started or began) - began)
                    return ticket.future.result()
                if ticket.started is not None:
                    remaining = ticket.started + limit - self._runtime.monotonic()
                    if remaining <= 0:
                        raise attempt.ran_out()
        finally:
            if not ticket.future.done():
                self._threads.abandon(ticket)
                ticket.future.cancel()

    def _is_async(self, function: Callable[..., Any]) -> bool:
        known = self._are_async.get(id(function))
        if known is None:
            called = getattr(function, "__call__", None)  # noqa: B004  it is inspected, not tested for
            known = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
            self._are_async[id(function)] = known
        return known


class _Time:
    """How much of an attempt's time is left; the clock is read only when somebody asks."""

    __slots__ = ("_began", "_limit", "_runtime")

    def __init__(self, runtime: Runtime, limit: float) -> None:
        self._runtime = runtime
        self._limit = limit
        self._began = runtime.monotonic()

    def waited(self, seconds: float) -> None:
        """So long the attempt waited for its turn: that time is not its own."""
        self._began += seconds

    def left(self) -> float:
        """Seconds left, not below zero."""
        return max(0.0, self._began + self._limit - self._runtime.monotonic())

    def ran_out(self) -> TimeoutError:
        """What the attempt fails with."""
        return TimeoutError(f"the attempt ran longer than {self._limit:g} s")


async def _within(awaitable: Any, attempt: _Time) -> Any:
    """What it gives within the attempt's time; one that never waits is spared the timer (4 µs)."""
    if type(awaitable) is CoroutineType:
        try:
            waits_for = awaitable.send(None)
        except StopIteration as stop:
            return stop.value
        awaitable = _Rest(awaitable, waits_for)
    timeout = asyncio.timeout(attempt.left())
    try:
        async with timeout:
            value = await awaitable
    except TimeoutError:
        if timeout.expired():
            raise attempt.ran_out() from None
        raise
    if timeout.expired():  # the handler swallowed its cancellation
        raise attempt.ran_out()
    return value


class _Rest:
    """The rest of a coroutine that has begun, and waits for something."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001  what is thrown in goes on to the coroutine
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration as stop:
            return stop.value
