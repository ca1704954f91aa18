"""The runtime of a process that is not simulated: the system's clocks, chance and threads."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepwell.runtime.threads import Threads
from stepwell.runtime.tuning import Tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_SWITCH_SECONDS = 0.0002


class SystemRuntime:
    """The real clock, chance and threads."""

    sql_now: str | None = None
    """SQL for the instant in a store on PostgreSQL; None: the server's clock, which all hosts share."""

    logs_runs = True
    """Whether an app logs what happens to its runs and workers; a test whose runs fail on purpose does not."""

    def __init__(self, tuning: Tuning | None = None) -> None:
        self.tuning: Tuning = Tuning() if tuning is None else tuning
        self._last = 0

    @property
    def process(self) -> str:
        """Names this process, and no other that ever ran on this host."""
        return _process_name()

    def goes_flat(self) -> bool:
        """Always: it is faster, and not otherwise different."""
        return True

    def wall(self) -> int:
        """The instant, in microseconds since 1970."""
        return time.time_ns() // 1000

    monotonic: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds of a clock that never steps."""

    def draw(self) -> float:
        """A number from 0 to 1, for jitter."""
        return int.from_bytes(os.urandom(6)) / 2**48

    def new_id(self) -> str:
        """A UUIDv7, greater than the one before: 48 bits of milliseconds, 12 of their fraction, 62 of chance."""
        stamp = max((time.time_ns() << 12) // 1_000_000, self._last + 1)
        self._last = stamp
        number = (stamp >> 12) << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 2 << 62 | _ENTROPY.draw() >> 2
        digits = f"{number:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def pause(self, seconds: float) -> None:
        """Blocks the calling thread."""
        time.sleep(seconds)

    async def sleep(self, seconds: float) -> None:
        """Waits without blocking."""
        await asyncio.sleep(seconds)

    def io_time(self) -> float:
        """The event loop's time, by which it ends what takes too long."""
        return asyncio.get_running_loop().time()

    async def io_sleep(self, seconds: float) -> None:
        """Waits without blocking."""
        await asyncio.sleep(seconds)

    def io_later(self, seconds: float, call: Callable[..., object], *given: object) -> asyncio.TimerHandle:
        """A timer of the event loop."""
        return asyncio.get_running_loop().call_later(seconds, call, *given)

    @contextmanager
    def share_quickly(self) -> Iterator[None]:
        """While entered, a thread that computes lets the others in after 0.2 ms instead of the interpreter's 5 ms.

        A commit takes the interpreter's lock some seven times; each time may cost it the switch interval while handlers
        compute. Measured: 5 to 15% more steps a second on a quiet machine, 40% on a busy one.
        """
        with _SHARING.lock:
            if _SHARING.users == 0:
                _SHARING.before = sys.getswitchinterval()
                sys.setswitchinterval(min(_SHARING.before, _SWITCH_SECONDS))
            _SHARING.users += 1
        try:
            yield
        finally:
            with _SHARING.lock:
                _SHARING.users -= 1
                if _SHARING.users == 0:
                    sys.setswitchinterval(_SHARING.before)

    def start_thread(self, target: Callable[[], None], name: str) -> threading.Thread:
        """Starts a daemon thread."""
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        return thread

    def threads(self, limit: int) -> Threads:
        """Threads of this process."""
        return Threads(self, limit)

    def repeat(
        self, what: Callable[[], None], every: float, at_end: Callable[[], None], name: str
    ) -> Callable[[], None]:
        """Calls it in a thread of its own."""
        stopped = threading.Event()

        def main() -> None:
            try:
                while not stopped.wait(every):
                    what()
            finally:
                at_end()

        self.start_thread(main, name)
        return stopped.set


class _Entropy:
    """The system's chance for ids, 8 bytes at a time of 4 kB: one call of the system an id was 7% of 1,000 starts."""

    def __init__(self) -> None:
        self._drawn: Iterator[int] = iter(())

    def draw(self) -> int:
        """64 bits. One step of an iterator, so that two threads never get the same."""
        while True:
            try:
                return next(self._drawn)
            except StopIteration:
                self.renew()

    def renew(self) -> None:
        """Forgets what was drawn: a forked child must not make the ids of its parent."""
        self._drawn = iter(_NUMBERS.unpack(os.urandom(_NUMBERS.size)))


_NUMBERS = struct.Struct("512Q")
_ENTROPY = _Entropy()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ENTROPY.renew)


def _process_name() -> str:
    pid = os.getpid()
    known = _NAMES.get(pid)
    # Two threads may be the first at once, in a forked child for instance: both must get the same name.
    return _NAMES.setdefault(pid, f"{pid}-{os.urandom(8).hex()}") if known is None else known


class _Sharing:
    """How many workers of this process want quick switching, and what it was before the first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.before = 0.0

    def begin_again(self) -> None:
        """In a forked child, which has none of its parent's workers."""
        self.lock = threading.Lock()
        if self.users:
            self.users = 0
            sys.setswitchinterval(self.before)


_SHARING = _Sharing()
"""The switch interval belongs to the interpreter, and so does the count of those who changed it."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SHARING.begin_again)
_NAMES: dict[int, str] = {}
"""This process's name by its pid, so that a forked child makes one of its own."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_NAMES.clear)  # the child may have the pid of an ancestor that has ended
