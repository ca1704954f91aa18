"""The attempts of one run: one at a time in the drive's own task, or several beside each other in tasks apart."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell.engine.driving.channel import Channel
from stepwell.runtime.threads import ClosedError
from stepwell.store.background import begin

if TYPE_CHECKING:
    from stepwell.core.decisions import Call, Ending
    from stepwell.engine.driving.channel import Desk
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.engine.driving.script_tools import ScriptTools
    from stepwell.runtime.threads import Returned
    from stepwell.workflow.context import Facts

_NOTHING = BaseException()


class Begun(NamedTuple):
    """An attempt whose handler was called on the flat path: when, and what it gave or raised."""

    started_at: int
    returned: Returned


@dataclass(slots=True)
class Attempt:
    """An attempt that is over: when, and what it gave, or else what it raised."""

    call: Call
    at: int
    ending: Ending | None
    error: BaseException = _NOTHING


class Attempts:
    """Makes attempts, and gathers those that end."""

    def __init__(self, owner: RunOwner, tools: ScriptTools) -> None:
        self._owner = owner
        self._tools = tools
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: list[Attempt] = []
        self._waiter: asyncio.Future[None] | None = None
        self._is_stopping = False
        self._is_canceling = False
        self._making: asyncio.Task[Any] | None = None
        self._in_flight: dict[int, Call] = {}
        self._channel: Channel | None = None

    @property
    def is_at_rest(self) -> bool:
        """Whether the drive waits for attempts, and does nothing else."""
        return self._making is not None or self._waiter is not None

    def is_in_flight(self, facts: Facts) -> bool:
        """Whether this very attempt is being made."""
        return self._in_flight.get(id(facts)) is facts

    def channel(self, desk: Desk) -> Channel:
        """By which the handlers in flight ask the drive; made when the first of them asks."""
        if self._channel is None:
            self._channel = Channel(desk)
        return self._channel

    @property
    def are_in_flight(self) -> bool:
        """Whether there are some beside each other, in flight or not taken in yet."""
        return bool(self._tasks or self._over)

    async def make(self, call: Call, begun: Begun | None = None) -> Attempt:
        """Makes the attempt here, or goes on with one whose handler has ended already.

        Raises ClosedError when it did not begin, and CancelledError when we are stopped. One that is canceled has the
        CancelledError for its error.
        """
        self._making = task = asyncio.current_task()
        try:
            attempt = await self._make(call, begun)
        except asyncio.CancelledError as error:
            # Our own cancel is taken back; what is left is the cancel of others, who stop the drive.
            if not self._is_canceling or task is None or task.uncancel() > 0:
                raise
            attempt = Attempt(call, self._tools.now(), None, error)
        finally:
            self._making = None
            self._is_canceling = False
        if self._channel is not None:
            await self._channel.quiet()
        return attempt

    async def _make(self, call: Call, begun: Begun | None) -> Attempt:
        now = self._tools.now
        call.started_at = now() if begun is None else begun.started_at
        self._in_flight[id(call)] = call
        try:
            ending = await self._owner.performer.perform(call, self._tools, None if begun is None else begun.returned)
        finally:
            del self._in_flight[id(call)]
        if isinstance(ending, BaseException):
            return Attempt(call, now(), None, ending)
        return Attempt(call, now(), ending)

    def begin(self, call: Call) -> None:
        """Begins an attempt beside the others."""
        task = begin(self._make_apart, call, name=f"stepwell-run-{call.run_id}/{call.step}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, call))

    async def ended(self, timeout: float | None) -> list[Attempt]:
        """Those that have ended, once there is one, after that many seconds, or when woken.

        A ClosedError: it did not begin.
        """
        if not self._over:
            self._waiter = asyncio.get_running_loop().create_future()
            if self._channel is not None:
                self._channel.serve()
            try:
                await asyncio.wait({self._waiter}, timeout=timeout)
            finally:
                self._waiter = None
            if self._channel is not None:
                await self._channel.quiet()
        over, self._over = self._over, []
        return over

    def wake(self) -> None:
        """Ends the wait for those in flight, even though none has ended."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def cancel(self) -> None:
        """Cancels those in flight, whose ends are taken in as usual."""
        if self._making is not None and not self._is_canceling:
            self._is_canceling = True
            self._making.cancel()
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """Cancels those in flight and waits for their end; a cancel meanwhile is passed on to them."""
        canceled: asyncio.CancelledError | None = None
        self._is_stopping = True
        if self._channel is not None:
            # After a refusal the drive goes on, to record it and to compensate: its next handlers get another channel.
            self._channel.close()
            self._channel = None
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError as error:
                canceled = error
        self._is_stopping = False
        if canceled is not None:
            raise canceled

    async def _make_apart(self, call: Call) -> None:
        try:
            attempt = await self._make(call, None)
        except ClosedError as error:
            attempt = Attempt(call, self._tools.now(), None, error)
        except asyncio.CancelledError as error:
            if self._is_stopping:
                raise
            attempt = Attempt(call, self._tools.now(), None, error)  # who cancels all tasks: the others wait for it
        self._gather(attempt)

    def _end(self, call: Call, task: asyncio.Task[None]) -> None:
        """The attempt's task has ended; where other code cancelled it before its first step, it did not begin."""
        self._tasks.discard(task)
        if task.cancelled() and not self._is_stopping:
            self._gather(Attempt(call, self._tools.now(), None, ClosedError()))

    def _gather(self, attempt: Attempt) -> None:
        self._over.append(attempt)
        self.wake()
