"""Virtual time: an event loop that jumps when all are blocked, and processes that die, freeze or block at any await."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
ROUNDS = 50
MOST_TURNS_AT_ONCE = 20_000
"""Turns of the loop between two moments, before a history counts as spinning; of 2,700 none made more than 600."""
MOST_TURNS = 200_000
"""Turns of the loop in all, before a history counts as having no end; of 2,700 none made more than 20,000."""
CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("simulated_process", default=None)


class StandstillError(Exception):
    """Everybody waits for something that nothing can bring."""


class LivelockError(Exception):
    """Everybody is busy, and nothing comes to its end."""


class Turn(asyncio.TimerHandle):
    """A call that is to be made; `apart`: by another thread than that of the event loop of its process."""

    __slots__ = ("apart", "args", "at", "callback", "context", "process")

    def __init__(  # a loop makes thousands: nothing of the handle it stands for is initialised
        self, at: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        if context is None:
            context = contextvars.copy_context()
        self.at = at
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self.process = context.get(CURRENT)
        self.apart = False

    def __repr__(self) -> str:
        return f"<Turn at {self.at} {self.callback}>"

    def cancel(self) -> None:
        """Does not make the call."""
        self.callback = None

    def cancelled(self) -> bool:
        """Whether it is not to be made."""
        return self.callback is None

    def when(self) -> float:
        """The instant of the loop's clock."""
        return self.at


class Process:
    """A simulated process: whatever begins in its context belongs to it, and stands still when it dies.

    Frozen, all of it stands still; blocked, its event loop does, and its other threads go on. `left`: after so many
    turns of its event loop it dies, in the middle of whatever it does.
    """

    def __init__(self, name: str, left: int = -1) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.blocked = False
        self.expired_alive = False
        self.left = left
        self.takes = 0.0
        """How long the plain handler that was called last takes."""
        self._kept: list[Turn] = []

    @property
    def runs(self) -> bool:
        """Whether it goes on."""
        return self.alive and not self.frozen and not self.blocked

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Has the coroutine run in this process."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def holds_back(self, turn: Turn) -> bool:
        """Whether the turn is not made now, but kept until the process goes on."""
        if self.left > 0:
            self.left -= 1
            if not self.left:
                self.die()
        if self.alive and not self.frozen and (turn.apart or not self.blocked):
            return False
        self._kept.append(turn)
        return True

    def die(self) -> None:
        """Nothing of it ever goes on; as SIGKILL does it."""
        self.alive = False

    def go_on(self) -> None:
        """Goes on after a freeze or a block, a late one."""
        self.frozen = self.blocked = False
        if self.alive:
            loop = asyncio.get_running_loop()
            kept, self._kept = self._kept, []
            for turn in kept:
                if turn.callback is not None:
                    loop.call_soon(turn.callback, *turn.args, context=turn.context)

    def revive(self) -> None:
        """After the history: lets what the dead left behind end, so that nothing is found by the garbage collector."""
        self.alive, self.left = True, -1
        self.go_on()


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time; what belongs to a process runs only while that goes on.

    It has what the engine asks of a loop, and none of the rest: no files, no sockets, no real threads.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._made = 0
        self._turns = self._most = 0
        self._at_once = MOST_TURNS_AT_ONCE
        self._ready: deque[Turn] = deque()
        self._timers: list[tuple[float, int, Turn]] = []
        self._closed = False
        self._on_error: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> Turn:
        """Calls back after what is ready already."""
        turn = Turn(self._now, callback, args, context)
        self._ready.append(turn)
        return turn

    call_soon_threadsafe = call_soon
    """There is one thread."""

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> Turn:
        """Calls back in so many seconds."""
        when = self._now + delay
        turn = Turn(when, callback, args, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, turn))
        return turn

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> Turn:
        """Calls back at the instant; those of one instant in the order in which they were asked for."""
        turn = Turn(when, callback, args, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, turn))
        return turn

    def call_apart(self, delay: float, callback: Callable[[*Ts], object], *args: *Ts) -> Turn:
        """Calls back in so many seconds, even if the event loop of the process is blocked."""
        turn = self.call_at(self._now + delay, callback, *args)
        turn.apart = True
        return turn

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """Has the coroutine run."""
        return asyncio.Task(coro, loop=self, name=str(name or "simulated"), context=context)

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Runs until the coroutine has ended; raises StandstillError or LivelockError when it never will."""
        asyncio._set_running_loop(self)
        self._turns, self._most = 0, min(self._at_once, MOST_TURNS)
        try:
            main = asyncio.ensure_future(cast("Awaitable[T]", future), loop=self)
            self._run_until(main)
            return main.result()
        finally:
            asyncio._set_running_loop(None)

    def break_off(self, ending: Coroutine[Any, Any, T]) -> T:
        """Runs what ends all that spins; thousands may have died, and all of them end at once."""
        self._at_once = MOST_TURNS
        return self.run_until_complete(ending)

    def _run_until(self, main: asyncio.Future[Any]) -> None:
        ready = self._ready
        while not main.done():
            if not ready:
                self._jump()
            self._turns += 1
            if self._turns > self._most:
                raise LivelockError(f"no end after {self._turns - 1:,} turns, at {self._now:.3f} s")
            turn = ready.popleft()
            callback, process = turn.callback, turn.process
            if callback is None or (process is not None and process.holds_back(turn)):
                continue
            try:
                turn.context.run(callback, *turn.args)
            except Exception as error:  # noqa: BLE001  as every event loop does: it goes on, and tells
                self.call_exception_handler({"message": f"in {callback}", "exception": error})

    def _jump(self) -> None:
        """Lets the time pass until something is to be done."""
        ready, timers = self._ready, self._timers
        while timers:
            at, _, turn = heapq.heappop(timers)
            if turn.callback is None:
                continue
            if at > self._now:
                self._now = at
                self._most = min(self._turns + self._at_once, MOST_TURNS)
            ready.append(turn)
            if not timers or timers[0][0] > self._now:
                return
        if not ready:
            raise StandstillError

    def set_exception_handler(
        self, handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None
    ) -> None:
        """Who is told of what nobody awaits."""
        self._on_error = handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tells."""
        if self._on_error is not None:
            self._on_error(self, context)

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whether somebody runs it."""
        return not self._closed

    def is_closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    def close(self) -> None:
        """It is over."""
        self._closed = True


async def pause(seconds: float) -> None:
    """Waits in virtual time, as `asyncio.sleep` does in twice the time of the one who plays."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = asyncio.Future(loop=loop)
    turn = loop.call_later(seconds, _wake, future)
    try:
        await future
    finally:
        turn.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def end_all(processes: list[Process]) -> None:
    """Ends all that still goes on in the loop, of the dead too."""
    for process in processes:
        process.revive()
    own = asyncio.current_task()
    for _ in range(ROUNDS):
        going = [task for task in asyncio.all_tasks() if task is not own]
        if not going:
            return
        for task in going:
            task.cancel()
        await asyncio.wait(going, timeout=1)
    raise AssertionError(f"these do not end: {[task for task in asyncio.all_tasks() if task is not own]}")
