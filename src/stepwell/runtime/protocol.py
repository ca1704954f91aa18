"""`Runtime`: clock, chance, ids, sleep and threads, for the stores and the engine alike.

Nothing else in stepwell reads a clock, draws, makes ids, sleeps or starts threads, so a test that gives another runtime
turns a seed into a history. There are two kinds of time, because a test may move one of them by hand. `wall`,
`monotonic` and `sleep` are the time in which runs live. `io_time`, `io_sleep` and `io_later` are the time in which a
server answers: it goes on by itself, and limits how long an answer is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from stepwell.runtime.threads import Threads
    from stepwell.runtime.tuning import Tuning


class Runtime(Protocol):
    """What stores and engine need and cannot decide."""

    logs_runs: bool
    """Whether an app logs what happens to its runs and workers; a test whose runs fail on purpose does not."""

    def goes_flat(self) -> bool:
        """Whether a run that may take the flat path takes it; a test has it drawn."""

    @property
    def process(self) -> str:
        """Names this process, and no other that ever ran on this host."""

    def wall(self) -> int:
        """The instant, in microseconds since 1970."""

    @property
    def tuning(self) -> Tuning:
        """The times and sizes by which stores and engine work."""

    @property
    def sql_now(self) -> str | None:
        """SQL for the same instant in a store on PostgreSQL; None: the server's clock, which all hosts share."""

    def monotonic(self) -> float:
        """Seconds of a clock that never steps."""

    def draw(self) -> float:
        """A number from 0 to 1, for jitter."""

    def new_id(self) -> str:
        """A UUIDv7, greater than the one before."""

    def pause(self, seconds: float) -> None:
        """Blocks the calling thread."""

    async def sleep(self, seconds: float) -> None:
        """Waits without blocking."""

    def io_time(self) -> float:
        """Seconds by which an answer from outside is waited for, on the running event loop."""

    async def io_sleep(self, seconds: float) -> None:
        """Waits in that time."""

    def io_later(self, seconds: float, call: Callable[..., object], *given: object) -> asyncio.TimerHandle:
        """Has the running event loop make the call after that many seconds of that time, unless it is cancelled."""

    def share_quickly(self) -> AbstractContextManager[None]:
        """While entered, a thread that computes lets the others in sooner."""

    def start_thread(self, target: Callable[[], None], name: str) -> Any:
        """Starts a daemon thread: one that is stuck in a user's handler must not keep the process from its exit."""

    def threads(self, limit: int) -> Threads:
        """At most that many threads for plain handlers, which may block."""

    def repeat(
        self, what: Callable[[], None], every: float, at_end: Callable[[], None], name: str
    ) -> Callable[[], None]:
        """Calls it again and again, after `every` seconds, apart from the event loop, even while that is blocked.

        Gives the function that stops it: then `at_end` is called in its place, once, and nothing after that.
        """
