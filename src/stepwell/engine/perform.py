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
    from stepwell.engine.slots import Slots
    from stepwell.engine.threads import Threads, Ticket

_MICROSECONDS = 1_000_000


class Performer:
    """Carries out calls: it runs their scripts, and the functions these ask for."""

    def __init__(self, slots: Slots, threads: Threads, step_timeout: int) -> None:
        self._slots = slots
        self._threads = threads
        self._step_timeout = step_timeout
        self._are_async: dict[int, bool] = {}
        self.is_over = False
        """Whether the worker waits no longer for handlers that swallow their cancellation."""

    def limit_of(self, timeout: int | None) -> float:
        """How long an attempt may take, in seconds, under a policy's timeout in microseconds."""
        return (self._step_timeout if timeout is None else timeout) / _MICROSECONDS

    async def perform(self, call: Call, tools: Tools) -> Ending:
        """The script's ending; raises what the user's functions raise, and TimeoutError."""
        script = call.script(call, tools)
        call.timed_from = call.started_at
        try:
            request = next(script)
            while True:
                if request.handler:
                    result = await self._handle(request, call, tools)
                else:
                    result = request.function(*request.arguments)
                    if inspect.isawaitable(result):
                        result = await self._within(result, call, tools)
                request = script.send(result)
        except StopIteration as stop:
            ending: Ending = stop.value
            return ending
        except BaseException:
            script.close()
            raise

    async def _handle(self, request: Invoke, call: Call, tools: Tools) -> Any:
        """What the handler gives; waiting for a slot or a thread is not part of the attempt's time."""
        slots = self._slots
        if not slots.take_free():
            await slots.take()
            call.started_at = call.timed_from = tools.now()
        try:
            function = request.function
            if self._is_async(function):
                result = function(*request.arguments)
                if type(result) is CoroutineType:
                    try:
                        waits_for = result.send(None)
                    except StopIteration as stop:
                        return stop.value  # it never waited, and is spared the timer (4 µs)
                    return await self._within(_Rest(self, result, waits_for), call, tools)
            else:
                result = await self._in_thread(partial(function, *request.arguments), call, tools)
            return await self._within(result, call, tools) if inspect.isawaitable(result) else result
        finally:
            slots.give_back()

    async def _in_thread(self, function: Callable[[], Any], call: Call, tools: Tools) -> Any:
        asked = asyncio.get_running_loop().time()
        ticket = self._threads.start(function)
        deadline = _Deadline(ticket, self._left(call, tools), self._ran_out(call))
        try:
            result = await ticket.future
        finally:
            deadline.cancel()
            if not ticket.ended:
                self._threads.abandon(ticket)
        call.timed_from += int(((ticket.started or asked) - asked) * _MICROSECONDS)
        return result

    async def _within(self, awaitable: Any, call: Call, tools: Tools) -> Any:
        """What it gives within the attempt's time."""
        timeout = asyncio.timeout(self._left(call, tools))
        try:
            async with timeout:
                value = await awaitable
        except TimeoutError:
            if timeout.expired():
                raise self._ran_out(call) from None
            raise
        if timeout.expired():  # the handler swallowed its cancellation
            raise self._ran_out(call)
        return value

    def _left(self, call: Call, tools: Tools) -> float:
        """Seconds left of the attempt's time, not below zero."""
        return max(0.0, self.limit_of(call.policy.timeout) - (tools.now() - call.timed_from) / _MICROSECONDS)

    def _ran_out(self, call: Call) -> TimeoutError:
        return TimeoutError(f"the attempt ran longer than {self.limit_of(call.policy.timeout):g} s")

    def _is_async(self, function: Callable[..., Any]) -> bool:
        known = self._are_async.get(id(function))
        if known is None:
            called = getattr(function, "__call__", None)  # noqa: B004  it is inspected, not tested for
            known = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
            self._are_async[id(function)] = known
        return known


class _Deadline:
    """The end of a thread's time, which begins when a thread takes the call, not while it waits for one.

    By the loop's clock, as that of an async handler: where a test lets time pass by hand, an attempt's time is real.
    """

    __slots__ = ("_error", "_limit", "_loop", "_ticket", "_timer")

    def __init__(self, ticket: Ticket, limit: float, error: TimeoutError) -> None:
        self._ticket = ticket
        self._limit = limit
        self._error = error
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(limit, self._look)

    def cancel(self) -> None:
        """The call has ended."""
        self._timer.cancel()

    def _look(self) -> None:
        started = self._ticket.started
        left = self._limit if started is None else started + self._limit - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif not self._ticket.future.done():
            self._ticket.future.set_exception(self._error)


class _Rest:
    """The rest of a coroutine that has begun, and waits for something."""

    __slots__ = ("_coroutine", "_performer", "_waits_for")

    def __init__(self, performer: Performer, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._performer = performer
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except BaseException as error:
                    if self._performer.is_over and isinstance(error, asyncio.CancelledError):
                        coroutine.close()  # it swallowed the first cancellation: nothing else would ever end it
                        raise
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration as stop:
            return stop.value
