"""One entering of an app, from `__aenter__` to `__aexit__`: where it may be called, and what is inside it.

Everything that an entered app has (futures, tasks, connections) belongs to one event loop of one process. A call from
another loop would write, and then wait for an answer that its own loop never gets: so it is refused before it begins.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from stepwell.engine.fleet.leaving import through_cancels
from stepwell.errors import DurableError

if TYPE_CHECKING:
    from stepwell.engine.fleet.waiters import Waiters
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.protocol import Store

_USE = "Use it inside `async with Durable(…) as app:`."


class Inside(Protocol):
    """What must be stopped before its app's store is closed."""

    async def leave_with_app(self) -> None:
        """Stops it, or waits until it has stopped."""


class AppSession:
    """Knows the event loop and the process in which the app was entered, and the workers inside."""

    def __init__(self, runtime: Runtime, store: Store, waiters: Waiters) -> None:
        self._runtime = runtime
        self._store = store
        self._waiters = waiters
        self._loop = asyncio.get_running_loop()
        self.process: str = runtime.process
        self._is_open = True
        self.workers: list[Inside] = []

    def check(self) -> None:
        """Raises DurableError where the app was left, or is called from elsewhere than where it was entered."""
        self.check_place()
        if not self._is_open:
            raise DurableError(f"This Durable was left. {_USE}")

    def check_place(self) -> None:
        """Raises DurableError in another event loop or process than the one in which the app was entered."""
        try:
            if asyncio.get_running_loop() is self._loop:
                return
        except RuntimeError:  # no loop runs here: after a fork, too
            pass
        if self._runtime.process != self.process:
            raise DurableError(
                "This Durable was entered in the process from which this one was forked. "
                "Enter it in this process, too, or make another one."
            )
        ended = ", which is closed" if self._loop.is_closed() else ""
        raise DurableError(
            f"This Durable was entered in another event loop{ended}. "
            "Enter it in the event loop that uses it: one asyncio.run() around all of it."
        )

    async def close(self) -> None:
        """Ends what waits for runs, stops the workers inside, and closes the store; quickly, when it is cancelled."""
        self._is_open = False
        self._waiters.close()
        try:
            # A cancel of gather() is handed down, and raised once all workers have stopped, which it hurries.
            stopped = await asyncio.gather(*(one.leave_with_app() for one in self.workers), return_exceptions=True)
            await self._store.close()
        except asyncio.CancelledError:
            await through_cancels(self._close_quickly())
            raise
        for error in stopped:
            if error is not None:
                raise error

    async def _close_quickly(self) -> None:
        """Closes the store within a moment, or lets it close by itself."""
        closing = asyncio.get_running_loop().create_task(self._store.close())
        await asyncio.wait({closing}, timeout=self._runtime.tuning.quick_seconds)
        closing.cancel()


def not_entered() -> DurableError:
    """The error of a call outside `async with`."""
    return DurableError(f"This Durable is not entered. {_USE}")
