"""Virtual time: a loop that jumps when all are blocked, processes that die at any await, a runtime from a seed."""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVarTuple

from stepwell.engine.threads import Threads, Ticket

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

EPOCH_MICROS = 1_700_000_000_000_000
ROUNDS = 50
Ts = TypeVarTuple("Ts")

CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("simulated_process", default=None)


class StandstillError(Exception):
    """Everybody waits for something that nothing can bring."""


class _Jump(selectors.SelectSelector):
    """Looks at no file: instead of waiting it moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Lets the time pass."""
        if timeout is None:
            raise StandstillError
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; what belongs to a process runs only while that lives and is not frozen."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self.set_task_factory(_belonging)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jump.now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As ever, but through the process it belongs to."""
        process = CURRENT.get() if context is None else context.get(CURRENT)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(process.through, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As ever, but through the process it belongs to."""
        process = CURRENT.get() if context is None else context.get(CURRENT)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, process.through, callback, *args, context=context)


class Process:
    """A simulated process: whatever begins in its context belongs to it, and stands still when it dies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.buried_alive = False
        self._kept: list[tuple[contextvars.Context, Callable[..., object], tuple[Any, ...]]] = []
        self._belongings: set[asyncio.Task[Any]] = set()

    @property
    def runs(self) -> bool:
        """Whether it goes on."""
        return self.alive and not self.frozen

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Has the coroutine run in this process."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def belongs(self, one: asyncio.Task[Any]) -> None:
        """Takes a coroutine that began in this process."""
        self._belongings.add(one)
        one.add_done_callback(self._belongings.discard)

    def through(self, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Calls back, unless the process stands still; then it is kept."""
        if self.runs:
            callback(*args)
        else:
            self._kept.append((contextvars.copy_context(), callback, args))

    def die(self) -> None:
        """Nothing of it ever goes on; as SIGKILL does it."""
        self.alive = False

    def thaw(self) -> None:
        """Goes on after a freeze, a late one."""
        self.frozen = False
        self._replay()

    async def clear_away(self) -> None:
        """After the history: ends what the dead left behind, so that nothing is found by the garbage collector."""
        self.alive, self.frozen = True, False
        for _ in range(ROUNDS):
            for one in tuple(self._belongings):
                one.cancel()
            self._replay()
            if not self._belongings:
                return
            await asyncio.wait(tuple(self._belongings), timeout=1)
        raise AssertionError(f"{self.name} does not end: {self._belongings}")

    def _replay(self) -> None:
        kept, self._kept = self._kept, []
        for context, callback, args in kept:
            asyncio.get_running_loop().call_soon(callback, *args, context=context)


def _belonging(
    loop: asyncio.AbstractEventLoop, coroutine: Any, *, context: contextvars.Context | None = None, **options: Any
) -> asyncio.Task[Any]:
    process = CURRENT.get() if context is None else context.get(CURRENT)
    one = asyncio.Task(coroutine, loop=loop, context=context, **options)
    if process is not None:
        process.belongs(one)
    return one


@dataclass(slots=True)
class Host:
    """What all processes share: by how much the wall clock was moved, in microseconds, and how many ids were made."""

    skew: int = 0
    ids: int = 0


@dataclass(slots=True)
class _Turns:
    """What is called again and again."""

    loop: asyncio.AbstractEventLoop
    what: Callable[[], None]
    every: float
    stopped: bool = False
    timer: asyncio.TimerHandle = field(init=False)

    def __call__(self) -> None:
        self.what()
        if not self.stopped:
            self.timer = self.loop.call_later(self.every, self)


class VirtualThreads(Threads):
    """The engine's threads without threads: a plain handler runs in one moment, a little later."""

    def __init__(self, runtime: VirtualRuntime, limit: int) -> None:
        super().__init__(runtime, limit)
        self._slowness = runtime.draw

    def close(self) -> None:
        """Nothing to end."""

    def _hand_out(self, ticket: Ticket) -> None:
        self._loop.call_later(0.01 * self._slowness(), self._serve, ticket)


class VirtualRuntime:
    """The engine's runtime over a virtual loop."""

    def __init__(self, chance: random.Random, name: str, host: Host) -> None:
        self._chance = chance
        self._name = name
        self._host = host
        self._loop = asyncio.get_running_loop()

    @property
    def process(self) -> str:
        """The simulated process."""
        return self._name

    def wall(self) -> int:
        """The instant, in microseconds since 1970."""
        return EPOCH_MICROS + int(self._loop.time() * 1_000_000) + self._host.skew

    def monotonic(self) -> float:
        """Seconds since the loop was made."""
        return self._loop.time()

    def draw(self) -> float:
        """A number from 0 to 1."""
        return self._chance.random()

    def new_id(self) -> str:
        """A UUIDv7, greater than any before it on this host."""
        self._host.ids += 1
        number = (EPOCH_MICROS // 1000 + self._host.ids) << 80 | 7 << 76 | 2 << 62 | self._chance.getrandbits(62)
        digits = f"{number:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def pause(self, seconds: float) -> None:
        """Never: nothing blocks a virtual loop."""
        raise AssertionError(f"something blocks the loop for {seconds} s")

    async def sleep(self, seconds: float) -> None:
        """Waits in virtual time."""
        await asyncio.sleep(seconds)

    def share_quickly(self) -> AbstractContextManager[None]:
        """There is one thread."""
        return nullcontext()

    def start_thread(self, target: Callable[[], None], name: str) -> Any:
        """Never: chance would come in by the system's scheduler."""
        raise AssertionError(f"a thread {name} was to be started for {target}")

    def threads(self, limit: int) -> VirtualThreads:
        """Threads in virtual time."""
        return VirtualThreads(self, limit)

    def repeat(
        self, what: Callable[[], None], every: float, at_end: Callable[[], None], name: str
    ) -> Callable[[], None]:
        """Calls it in virtual time."""
        timer = self._loop.call_later(every, turn := _Turns(self._loop, what, every))
        del name
        turn.timer = timer

        def stop() -> None:
            if not turn.stopped:
                turn.stopped = True
                turn.timer.cancel()
                self._loop.call_soon(at_end)

        return stop
