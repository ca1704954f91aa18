"""The tasks and contexts in which functions of the user's run on the event loop, apart from the engine's own tasks.

Rule 1: whatever a function does to its task stays there. It may cancel it, leave a cancel count or an open scope
behind whose background task cancels it later: neither the task that drives the run nor another function notices.
Rule 2: a function runs in the context of its attempt, from its first step to its last.
Rule 3: a function that never waits costs no task. It is called within the step of the drive that asks for it, while a
spare task is the current one; the spare is used again unless the function cancelled it or kept a reference to it.
Rule 4: a function that waits keeps the spare, which goes on with it, and the next function gets a new one.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from stepwell.runtime.threads import Returned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context


class UserCode:
    """Calls functions as tasks of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._spare: RunningFunction | None = None
        self.is_over = False
        """Whether functions that swallow their cancellation are closed at the next one."""

    def call(
        self, context: Context, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Returned | RunningFunction:
        """Calls it up to its end or its first wait; with a task it goes on by itself from there."""
        given = self.start(context, function, *arguments)
        return given if isinstance(given, Returned | RunningFunction) else Returned(given)

    def start(self, context: Context, function: Callable[..., Any], *arguments: Any) -> Any:
        """The same, and gives a value as it is: nothing is made of the usual end, which the flat path has each step."""
        spare = self._spare
        if spare is None or spare.carrier.done() or spare.carrier.cancelling():  # code that cancels all tasks did that
            spare = self._spare = RunningFunction(self, self._loop)
        task, loop = spare.carrier, self._loop
        caller = asyncio.current_task(loop)
        assert caller is not None  # noqa: S101  calls are made by tasks alone
        references = sys.getrefcount(task)
        coroutine: Coroutine[Any, Any, Any] | None = None
        asyncio._leave_task(loop, caller)  # noqa: SLF001  documented for those who extend asyncio
        asyncio._enter_task(loop, task)  # noqa: SLF001  as above
        try:
            given = context.run(function, *arguments)
            if type(given) is CoroutineType:
                coroutine = given
            elif inspect.isawaitable(given):
                coroutine = _awaited(given)
            if coroutine is not None:
                try:
                    given = context.run(coroutine.send, None)
                except StopIteration as stop:
                    coroutine, given = None, stop.value
        except BaseException as error:
            if is_interrupt(error):
                raise
            coroutine, given = None, Returned(None, error)
        finally:
            asyncio._leave_task(loop, task)  # noqa: SLF001  as above
            asyncio._enter_task(loop, caller)  # noqa: SLF001  as above
        if coroutine is not None:
            self._spare = None
            spare.go_on(context, coroutine, given)
            return spare
        if task.cancelling():
            self._drop_spare()
            if not isinstance(given, Returned):  # as asyncio has it: a cancel that was not delivered ends the task
                return Returned(None, asyncio.CancelledError())
        elif sys.getrefcount(task) > references:  # what kept it could cancel it while it runs another function
            self._drop_spare()
        return given

    def close(self) -> None:
        """Ends the spare task."""
        self._drop_spare()

    async def closed(self) -> None:
        """Ends the spare task, and returns once it has ended."""
        spare = self._spare
        self._drop_spare()
        if spare is not None:
            await asyncio.wait({spare.carrier})

    def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.carrier.cancel()


class RunningFunction:
    """A task that hosts one function from its first wait on; until then it is the spare."""

    __slots__ = (
        "_context",
        "_coroutine",
        "_loop",
        "_owner",
        "_waits_for",
        "_woken",
        "carrier",
        "is_expired",
        "returned",
    )

    def __init__(self, owner: UserCode, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._context: Context
        self._waits_for: Any = None
        self._woken: asyncio.Future[None] | None = None
        self.is_expired: bool = False
        """Whether its time ran out before it ended."""
        self.returned: Returned | None = None
        work = self._main()
        work.send(None)  # to its first wait, so that a cancel before the task's first step finds it begun
        self.carrier: asyncio.Task[None] = loop.create_task(work, name="stepwell-function")

    def go_on(self, context: Context, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        """Hosts the coroutine, which waits for something."""
        self._context, self._coroutine, self._waits_for = context, coroutine, waits_for
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def expire(self) -> None:
        """Its time is over."""
        if self.returned is None and not self.carrier.done():
            self.is_expired = True
            self.carrier.cancel()

    def abandon(self) -> None:
        """Closes the function at once: who waited for it is closed, as where an event loop ends for good."""
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            self._close(coroutine)
        with suppress(RuntimeError):  # its event loop was closed
            self.carrier.cancel()

    async def _main(self) -> None:
        await self

    def __await__(self) -> Generator[Any, Any, None]:
        canceled: asyncio.CancelledError | None = None
        try:
            yield
            if self._coroutine is None:
                self._woken = self._loop.create_future()
                yield from self._woken.__await__()
        except asyncio.CancelledError as error:
            canceled = error
        if self._coroutine is not None:
            yield from self._host(self._coroutine, self._waits_for, canceled)

    def _host(
        self, coroutine: Coroutine[Any, Any, Any], waits_for: Any, canceled: asyncio.CancelledError | None
    ) -> Generator[Any, Any, None]:
        run, is_closing = self._context.run, False
        try:
            # A cancel that came before the first wait; where the count is zero, it was of a function before this one.
            if canceled is not None and self.carrier.cancelling() and not _cancel(waits_for):
                waits_for = run(coroutine.throw, canceled)
            while True:
                try:
                    value = yield waits_for
                except GeneratorExit:
                    is_closing = True
                    run(coroutine.close)
                    raise
                except BaseException as error:  # noqa: BLE001  it is for the function, whatever it is
                    if self._owner.is_over and isinstance(error, asyncio.CancelledError):
                        self._close(coroutine)
                        return
                    waits_for = run(coroutine.throw, error)
                else:
                    waits_for = run(coroutine.send, value)
        except StopIteration as stop:
            self.returned = Returned(stop.value)
        except BaseException as error:
            if is_closing:
                raise
            self.returned = Returned(None, error)
            if is_interrupt(error):
                raise

    def _close(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Ends the function without another step, as one that swallowed its first cancellation must be ended."""
        with suppress(BaseException):
            self._context.run(coroutine.close)
        self.returned = Returned(None, asyncio.CancelledError())


def is_interrupt(error: BaseException) -> bool:
    """Whether it is the interpreter's Ctrl-C, raised in whatever the main thread runs, rather than an error of that."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def _cancel(waits_for: Any) -> bool:
    """Cancels what a task waits for, if it can be: then the task hears of its cancel from that."""
    return waits_for is not None and bool(waits_for.cancel())


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
