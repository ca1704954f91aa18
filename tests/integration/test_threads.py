"""Two plain handlers that end at the same moment: neither is taken for told by the other."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.threads import Threads, Ticket
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable


class Interleaved(deque[Any]):
    """A deque that lets another thread go on just after the first append."""

    def __init__(self, between: Callable[[], None]) -> None:
        super().__init__()
        self._between: Callable[[], None] | None = between

    def append(self, item: Any) -> None:
        """Appends, and is interrupted once."""
        super().append(item)
        between, self._between = self._between, None
        if between is not None:
            between()


async def test_i4_handlers_in_threads_that_end_at_the_same_moment_are_both_heard() -> None:
    loop = asyncio.get_running_loop()
    threads = Threads(SystemRuntime(), 2)
    one, other = (Ticket(call, loop.create_future(), copy_context()) for call in (lambda: 1, lambda: 2))
    threads._ended = Interleaved(lambda: threads._serve(other))
    await asyncio.to_thread(threads._serve, one)
    async with asyncio.timeout(PATIENCE):
        assert [await one.future, await other.future] == [(1, None), (2, None)]
    later = threads.start(lambda: 3)
    async with asyncio.timeout(PATIENCE):
        assert await later.future == (3, None)
    threads.close()
