"""The engine's runtime over a virtual loop: clock, chance, ids and threads, all told by a seed."""

from __future__ import annotations

import asyncio
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepwell.runtime.threads import Threads, Ticket
from stepwell.runtime.tuning import Tuning
from tests.simulation.loop import CURRENT, Process, Turn, VirtualLoop, pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.runtime.threads import Returned

EPOCH_MICROS = 1_700_000_000_000_000
LONGEST_THREAD_SECONDS = 0.01
FLAT = 0.5
"""How likely a run takes the flat path where it may."""
_NOBODY = Process("nobody")


@dataclass(slots=True)
class Host:
    """What all processes share: by how much the wall clock was moved, in microseconds, and how many ids were made."""

    skew: int = 0
    ids: int = 0


class VirtualThreads(Threads):
    """The engine's threads in virtual time.

    A plain handler is called in one moment, and its thread is held for as long as its process says that it takes.
    """

    def __init__(self, runtime: VirtualRuntime, limit: int) -> None:
        super().__init__(runtime, limit)
        self._virtual = runtime
        self._free = limit
        self._queue: list[Ticket] = []

    def close(self) -> None:
        """Nothing to end."""

    def _hand_out(self, ticket: Ticket) -> None:
        self._queue.append(ticket)
        if self._free:
            self._free -= 1
            self._virtual.loop.call_apart(LONGEST_THREAD_SECONDS * self._virtual.draw(), self._go_on)

    def _go_on(self) -> None:
        while self._queue:
            ticket = self._queue.pop(0)
            if not ticket.abandoned:
                process = CURRENT.get() or _NOBODY
                process.takes = 0.0
                given = self._call(ticket)
                self._virtual.loop.call_apart(process.takes, self._over, ticket, given)
                return
        self._free += 1

    def _over(self, ticket: Ticket, returned: Returned) -> None:
        self._end(ticket, returned)
        self._go_on()


class _Repeated:
    """What is called again and again, apart from the event loop."""

    def __init__(self, loop: VirtualLoop, what: Callable[[], None], every: float, at_end: Callable[[], None]) -> None:
        self._loop = loop
        self._what = what
        self._every = every
        self._at_end = at_end
        self._stopped = False
        self._timer: Turn = loop.call_apart(every, self._turn)

    def stop(self) -> None:
        """The last call."""
        if not self._stopped:
            self._stopped = True
            self._timer.cancel()
            self._loop.call_apart(0.0, self._at_end)

    def _turn(self) -> None:
        self._what()
        if not self._stopped:
            self._timer = self._loop.call_apart(self._every, self._turn)


class VirtualRuntime:
    """The engine's runtime over a virtual loop."""

    logs_runs = True
    sql_now = None
    tuning = Tuning(turn_seconds=0.0)
    """A process that dies in one handler must not call the next one."""

    def __init__(self, chance: random.Random, name: str, host: Host, apart: float = 0.0) -> None:
        """`apart`: by how many seconds this host's clocks differ from the store's."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self._chance = chance
        self._name = name
        self._host = host
        self._apart = apart
        self._paths = random.Random(f"paths {name} {chance.getstate()[1][0]}")

    def goes_flat(self) -> bool:
        """Drawn, apart from all else: a history without the flat path is the same history."""
        return self._paths.random() < FLAT

    @property
    def process(self) -> str:
        """The simulated process."""
        return self._name

    def wall(self) -> int:
        """The instant, in microseconds since 1970."""
        return EPOCH_MICROS + int((self.loop.time() + self._apart) * 1_000_000) + self._host.skew

    def monotonic(self) -> float:
        """Seconds of a clock that never steps, and begins somewhere."""
        return self.loop.time() + abs(self._apart)

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
        await pause(seconds)

    def io_time(self) -> float:
        """The loop's time: a host's clocks may differ from it, but nothing here waits for a real answer."""
        return self.loop.time()

    async def io_sleep(self, seconds: float) -> None:
        """Waits in virtual time."""
        await pause(seconds)

    def io_later(self, seconds: float, call: Callable[..., object], *given: object) -> asyncio.TimerHandle:
        """Never: what is simulated has no server that could be late."""
        raise AssertionError(f"a timer of {seconds} s was to be started for {call} with {given}")

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
        del name
        return _Repeated(self.loop, what, every, at_end).stop
