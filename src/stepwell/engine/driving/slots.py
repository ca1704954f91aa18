"""The worker's concurrency: how many handlers and compensators may be in flight at once."""

from __future__ import annotations

import asyncio
from collections import deque

from stepwell.runtime.threads import ClosedError


class Slots:
    """Like a semaphore, but free of an await while a slot is free; first come, first served."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._closed = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_free(self) -> bool:
        """Takes a slot if one is free."""
        if self._free > 0 and not self._closed:
            self._free -= 1
            return True
        return False

    async def take(self) -> None:
        """Takes a slot, and waits for one while none is free; raises ClosedError."""
        if self._closed:
            raise ClosedError
        if self.take_free():  # one may have become free since the caller looked
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back()  # it was given to us at the moment of the cancel: pass it on
            raise

    def give_back(self) -> None:
        """Frees a slot, for the one who waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Turns away those that wait, and all that come later."""
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(ClosedError())
