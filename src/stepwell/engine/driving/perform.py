"""Running a user's functions: async ones on the event loop, plain handlers in threads, each attempt within its time."""

from __future__ import annotations

import asyncio
import inspect
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from stepwell.core.flat import is_async
from stepwell.engine.driving.failures import raised_in
from stepwell.engine.driving.lingering import Lingering
from stepwell.engine.driving.user_code import RunningFunction, UserCode, is_interrupt
from stepwell.runtime.threads import ClosedError, Returned

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from stepwell.core.decisions import Call, Ending, Invoke, Tools
    from stepwell.core.plan import Plan
    from stepwell.engine.driving.slots import Slots
    from stepwell.runtime.threads import Threads, Ticket

_MICROSECONDS = 1_000_000


class Performer:
    """Carries out calls: it runs their scripts, and the functions these ask for.

    Each call has its own copy of the context in which the performer was made; all functions of the call share it.
    """

    def __init__(self, slots: Slots, threads: Threads, step_timeout: int) -> None:
        self.slots = slots
        self._threads = threads
        self._step_timeout = step_timeout
        self._are_async: dict[int, bool] = {}
        self.user_code: UserCode = UserCode()
        self._lingering = Lingering()
        self.context: Context = copy_context()

    def limit_of(self, timeout: int | None) -> float:
        """How long an attempt may take, in seconds, under a policy's timeout in microseconds."""
        return (self._step_timeout if timeout is None else timeout) / _MICROSECONDS

    def longest_limit(self, plan: Plan) -> float:
        """The most that an attempt in this plan may take, in seconds."""
        return max((self.limit_of(node.policy.timeout) for node in plan.nodes), default=0.0)

    @property
    def is_over(self) -> bool:
        """Whether the worker waits no longer for handlers that swallow their cancellation."""
        return self.user_code.is_over

    @is_over.setter
    def is_over(self, is_over: bool) -> None:
        self.user_code.is_over = is_over

    def close(self) -> None:
        """Nothing is performed any more."""
        self.user_code.close()

    async def closed(self) -> None:
        """Nothing is performed any more, and no task of ours is left."""
        await self.user_code.closed()

    async def perform(self, call: Call, tools: Tools, already: Returned | None = None) -> Ending | BaseException:
        """The script's ending, or what a function of the user's raised; raises ClosedError and our own cancel.

        `already`: what the first function gave that the script asks for, which was called before.

        A user's function is called apart from the script and its exception is a value here: a StopIteration must not
        be taken for the script's end, nor a GeneratorExit or CancelledError for ours.
        """
        if call.waits_for_late:
            await self._lingering.ended(call)
            call.started_at = tools.now()
        script = call.script(call, tools)
        context = self.context.copy()
        call.timed_from = call.started_at
        given: Any = None
        while True:
            try:
                request = script.send(given)
            except StopIteration as stop:
                ending: Ending = stop.value
                return ending
            except BaseException as error:  # a value of the user's may raise anything when it is looked at
                if is_interrupt(error):
                    raise
                return raised_in("generator", error)
            if already is not None:
                call.was_called = True
                returned, already = already, None
            elif request.handler:
                returned = await self._handle(request, call, tools, context)
            else:
                started = self.user_code.call(context, request.function, request.arguments)
                returned = started if isinstance(started, Returned) else await self._end_of(started, call, tools)
            if returned.error is not None:
                script.close()
                return raised_in("coroutine", returned.error)
            given = returned.value

    async def _handle(self, request: Invoke, call: Call, tools: Tools, context: Context) -> Returned:
        """What the handler gives; waiting for a slot or a thread is not part of the attempt's time."""
        slots = self.slots
        if not slots.take_free():
            await slots.take()
            call.started_at = call.timed_from = tools.now()
        call.was_called = True
        try:
            function, arguments = request.function, request.arguments
            if not self._is_async(function):
                returned = await self._in_thread(partial(function, *arguments), call, tools, context)
                if returned.error is not None or not inspect.isawaitable(returned.value):
                    return returned
                function, arguments = _itself, (returned.value,)
            started = self.user_code.call(context, function, arguments)
            # one that never waited is spared the timer (4 µs)
            return started if isinstance(started, Returned) else await self._end_of(started, call, tools)
        finally:
            slots.give_back()

    async def _in_thread(self, function: Callable[[], Any], call: Call, tools: Tools, context: Context) -> Returned:
        asked = asyncio.get_running_loop().time()
        ticket = self._threads.start(function, context)
        deadline = _Deadline(ticket, self._left(call, tools), _ran_out(self.limit_of(call.policy.timeout)))
        try:
            returned = await ticket.future
        finally:
            deadline.cancel()
            if not ticket.ended:
                self._threads.abandon(ticket)
                if ticket.started is not None and call.phase == "do":
                    self._lingering.add(call, ticket, self.limit_of(call.policy.timeout))
        call.timed_from += int(((ticket.started or asked) - asked) * _MICROSECONDS)
        return returned

    async def _end_of(self, started: RunningFunction, call: Call, tools: Tools) -> Returned:
        name, limit = f"stepwell-run-{call.run_id}/{call.step}", self.limit_of(call.policy.timeout)
        return await self.end_of(started, name, limit, self._left(call, tools))

    async def end_of(self, started: RunningFunction, name: str, limit: float, left: float) -> Returned:
        """What a function that waits gives within the attempt's time, of which `left` seconds remain.

        A cancel of our own task reaches the function at once, and nothing that it gives or raises from then on counts.
        The function's own cancels cannot reach us: they are what it raised, or went by unnoticed if it swallowed them.
        """
        task = started.carrier
        task.set_name(name)
        drive = asyncio.current_task()
        assert drive is not None  # noqa: S101  a coroutine of a running loop is in a task
        canceled_before = drive.cancelling()
        timer = asyncio.get_running_loop().call_later(left, started.expire)
        try:
            await task
        except asyncio.CancelledError as error:
            if drive.cancelling() > canceled_before:
                raise
            returned = started.returned
            if returned is None or returned.error is None:  # it cancelled itself and never waited after that
                returned = Returned(None, error)
        except GeneratorExit:
            started.abandon()
            raise
        except KeyboardInterrupt:
            raise ClosedError from None  # the loop has raised it to its caller; should it go on, so may the run
        else:
            returned = started.returned or Returned(None, asyncio.CancelledError())
        finally:
            timer.cancel()
        if drive.cancelling() > canceled_before:
            raise asyncio.CancelledError
        if started.is_expired and (returned.error is None or isinstance(returned.error, asyncio.CancelledError)):
            return Returned(None, _ran_out(limit))
        return returned

    def _left(self, call: Call, tools: Tools) -> float:
        """Seconds left of the attempt's time, not below zero."""
        return max(0.0, self.limit_of(call.policy.timeout) - (tools.now() - call.timed_from) / _MICROSECONDS)

    def _is_async(self, function: Callable[..., Any]) -> bool:
        known = self._are_async.get(id(function))
        if known is None:
            known = self._are_async[id(function)] = is_async(function)
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
            self._ticket.future.set_result(Returned(None, self._error))


def _ran_out(limit: float) -> TimeoutError:
    return TimeoutError(f"the attempt ran longer than {limit:g} s")


def _itself(awaitable: Any) -> Any:
    return awaitable
