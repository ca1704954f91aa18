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
        attempt = _Time(self, call, tools)
        try:
            request = next(script)
            while True:
                if request.handler:
                    result = await self._handle(request, attempt)
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

    async def _handle(self, request: Invoke, attempt: _Time) -> Any:
        """What the handler gives; waiting for a slot or a thread is not part of the attempt's time."""
        slots = self._slots
        if not slots.take_free():
            await slots.take()
            attempt.begins_now()
        try:
            function = request.function
            if self._is_async(function):
                result = function(*request.arguments)
                if type(result) is CoroutineType:
                    try:
                        waits_for = result.send(None)
                    except StopIteration as stop:
                        return stop.value  # it never waited, and is spared the timer (4 µs)
                    return await _within(_Rest(result, waits_for), attempt)
            else:
                result = await self._in_thread(partial(function, *request.arguments), attempt)
            return await _within(result, attempt) if inspect.isawaitable(result) else result
        finally:
            slots.give_back()

    async def _in_thread(self, function: Callable[[], Any], attempt: _Time) -> Any:
        asked = self._runtime.monotonic()
        ticket: Ticket = self._threads.start(function)
        try:
            remaining = limit = attempt.left()
            while True:
                done, _ = await asyncio.wait({ticket.future}, timeout=remaining)
                if done:
                    attempt.waited((ticket.started or asked) - asked)
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

    __slots__ = ("_began", "_call", "_performer", "_tools")

    def __init__(self, performer: Performer, call: Call, tools: Tools) -> None:
        self._performer = performer
        self._call = call
        self._tools = tools
        self._began = call.started_at

    def begins_now(self) -> None:
        """The attempt had waited for its turn until now."""
        self._began = self._call.started_at = self._tools.now()

    def waited(self, seconds: float) -> None:
        """So long the attempt waited for its turn: that time is not its own."""
        self._began += int(seconds * _MICROSECONDS)

    def left(self) -> float:
        """Seconds left, not below zero."""
        return max(0.0, self._limit() - (self._tools.now() - self._began) / _MICROSECONDS)

    def ran_out(self) -> TimeoutError:
        """What the attempt fails with."""
        return TimeoutError(f"the attempt ran longer than {self._limit():g} s")

    def _limit(self) -> float:
        return self._performer.limit_of(self._call.policy.timeout)


async def _within(awaitable: Any, attempt: _Time) -> Any:
    """What it gives within the attempt's time."""
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
