"""The attempts of one run: one at a time in the drive's own task, or several beside each other in tasks apart."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stepwell.runtime.threads import ClosedError
from stepwell.store.background import begin

if TYPE_CHECKING:
    from stepwell.core.decisions import Call, Ending
    from stepwell.engine.driving.run_owner import RunOwner
    from stepwell.engine.driving.script_tools import ScriptTools
    from stepwell.runtime.threads import Returned

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

    @property
    def are_in_flight(self) -> bool:
        """Whether there are some beside each other, in flight or not taken in yet."""
        return bool(self._tasks or self._over)

    async def make(self, call: Call, begun: Begun | None = None) -> Attempt:
        """Makes the attempt here, or goes on with one whose handler has ended already.

        Raises ClosedError when it did not begin, and CancelledError when we are stopped.
        """
        now = self._tools.now
        call.started_at = now() if begun is None else begun.started_at
        ending = await self._owner.performer.perform(call, self._tools, None if begun is None else begun.returned)
        if isinstance(ending, BaseException):
            return Attempt(call, now(), None, ending)
        return Attempt(call, now(), ending)

    def begin(self, call: Call) -> None:
        """Begins an attempt beside the others."""
        task = begin(self._make_apart, call, name=f"stepwell-run-{call.run_id}/{call.step}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ended(self, timeout: float | None) -> list[Attempt]:
        """Those that have ended, once there is one, or after so many seconds; a ClosedError: it did not begin."""
        if not self._over:
            self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._waiter}, timeout=timeout)
            self._waiter = None
        over, self._over = self._over, []
        return over

    async def stop(self) -> None:
        """Cancels those in flight and waits for their end; a cancel meanwhile is passed on to them."""
        canceled: asyncio.CancelledError | None = None
        self._is_stopping = True
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
            attempt = await self.make(call)
        except ClosedError as error:
            attempt = Attempt(call, self._tools.now(), None, error)
        except asyncio.CancelledError as error:
            if self._is_stopping:
                raise
            attempt = Attempt(call, self._tools.now(), None, error)  # who cancels all tasks: the others wait for it
        self._over.append(attempt)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
