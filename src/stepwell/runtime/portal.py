"""A portal: an event loop in a thread of its own, and calls into it from all other threads.

Every call is answered: with what it gave, with its error, or, where the portal ended meanwhile, with a
PortalClosedError. A call is counted as waiting before the loop is told of it, and what still waits once the loop has
ended is answered by the thread that ran it, so that no thread waits for a loop that will never run again.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell.runtime.protocol import Runtime

T = TypeVar("T")
LoopFactory: TypeAlias = "Callable[[], asyncio.AbstractEventLoop]"


class PortalClosedError(Exception):
    """The portal ended before the call did: what it asked for may have been done or not."""


class Portal:
    """An event loop that runs in its own thread until `end`."""

    def __init__(self, runtime: Runtime, loop_factory: LoopFactory | None = None) -> None:
        """Starts it; raises what the factory raises."""
        self.process: str = runtime.process
        self._loop: asyncio.AbstractEventLoop
        self._ending: asyncio.Event
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._is_closed = False
        begun: Future[None] = Future()
        self._thread = runtime.start_thread(lambda: self._main(loop_factory, begun), "stepwell-blocking")
        try:
            begun.result()
        except BaseException:
            self._thread.join()
            raise

    def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """What the awaitable gives that `make` returns, both in the loop, in a copy of this thread's context.

        Where this thread is interrupted meanwhile, by Ctrl-C, the call is cancelled, and has ended before this raises.
        Raises PortalClosedError.
        """
        answer: Future[T] = Future()
        begun: list[asyncio.Future[T]] = []
        with self._lock:
            if self._is_closed:
                raise PortalClosedError
            self._waiting.add(answer)
        try:
            self._send(self._begin, make, answer, begun)
            return answer.result()
        except BaseException:
            if not answer.done():
                self._send(_cancel, begun)
                wait([answer])
            raise
        finally:
            del answer  # its error has a traceback, which has this frame

    def end(self) -> None:
        """Cancels the calls that are left, and returns once the thread has ended."""
        self._send(self._end)
        self._thread.join()

    def _main(self, loop_factory: LoopFactory | None, begun: Future[None]) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(self._serve(begun))
        except BaseException as error:
            if begun.done():
                raise
            begun.set_exception(error)
        finally:
            with self._lock:
                self._is_closed = True
                left, self._waiting = self._waiting, set()
            for answer in left:
                answer.set_exception(PortalClosedError())

    async def _serve(self, begun: Future[None]) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        begun.set_result(None)
        await self._ending.wait()

    def _end(self) -> None:
        self._ending.set()

    def _send(self, what: Callable[..., None], *given: object) -> None:
        """Has the loop call it; a loop that is closed does not, and `_main` answers what waits."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *given)

    def _begin(self, make: Callable[[], Awaitable[T]], answer: Future[T], begun: list[asyncio.Future[T]]) -> None:
        begun.append(self._loop.create_task(_awaited(make)))
        begun[0].add_done_callback(lambda ended: self._answer(ended, answer))

    def _answer(self, ended: asyncio.Future[T], answer: Future[T]) -> None:
        with self._lock:
            if answer not in self._waiting:
                return
            self._waiting.remove(answer)
        if ended.cancelled():
            answer.set_exception(PortalClosedError())
        elif (error := ended.exception()) is not None:
            answer.set_exception(error)
        else:
            answer.set_result(ended.result())


async def _awaited(make: Callable[[], Awaitable[T]]) -> T:
    return await make()


def _cancel(begun: list[asyncio.Future[Any]]) -> None:
    for call in begun:
        call.cancel()
