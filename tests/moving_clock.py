"""A store's clock that only tests move: the store's instant stands still until it is told to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.runtime.system import SystemRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = 1_750_000_000_000_000
"""Where the clock begins, in microseconds since 1970."""
SECOND = 1_000_000


class MovingClock(SystemRuntime):
    """The real runtime but for the store's instant; `process` can be changed, to be another process."""

    sql_now: str | None = "(SELECT at FROM stepwell.moved)"

    def __init__(self, process: str = "this-process") -> None:
        super().__init__()
        self._now = NOON
        self._process = process
        self.on_move: list[Callable[[int], None]] = []

    @property
    def process(self) -> str:
        """Names the process that the store takes this for."""
        return self._process

    def wall(self) -> int:
        """The instant, in microseconds since 1970."""
        return self._now

    def go_on(self, seconds: float) -> None:
        """Moves the instant, back too."""
        self._now += int(seconds * SECOND)
        for tell in self.on_move:
            tell(self._now)


class SteadyClock(MovingClock):
    """The store's clock and the worker's steady one, which tests move together."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = 0.0
        self.real = super().monotonic

    def monotonic(self) -> float:
        """Seconds that tests have let pass, besides the real ones."""
        return self.real() + self._passed

    def go_on(self, seconds: float) -> None:
        """Lets time pass by both clocks."""
        self._passed += seconds
        super().go_on(seconds)
