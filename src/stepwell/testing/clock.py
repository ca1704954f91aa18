"""Time that only a test lets pass, with draws and ids from a seed: the engine's runtime as the harness gives it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from stepwell.runtime.system import SystemRuntime
from stepwell.runtime.tuning import Tuning
from stepwell.workflow.durations import moment

if TYPE_CHECKING:
    from datetime import datetime

_BEGINNING = 0x0180_0000_0000
"""The milliseconds in ids that come from a seed: the same whenever the test is run."""


class VirtualRuntime(SystemRuntime):
    """Stands still until it is moved. With `seeded_ids` the ids come from the seed, too: for a store of its own."""

    sql_now: str | None = "(SELECT at FROM stepwell.testing_clock)"

    def __init__(self, begins: int, seed: int, *, seeded_ids: bool) -> None:
        super().__init__(Tuning(turn_seconds=0.0))  # a process that dies in one handler must not call the next one
        self._begins = self._now = begins
        self._chance = random.Random(f"stepwell {seed}")
        self._seeded_ids = seeded_ids
        self._made = 0
        self._sleeping: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def instant(self) -> datetime:
        """The instant as an aware datetime."""
        return moment(self._now)

    def wall(self) -> int:
        """The instant, in microseconds since 1970."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return (self._now - self._begins) / 1_000_000

    def draw(self) -> float:
        """A number from 0 to 1."""
        return self._chance.random()

    def new_id(self) -> str:
        """A UUIDv7, greater than the one before."""
        if not self._seeded_ids:
            return super().new_id()
        self._made += 1
        number = (_BEGINNING + self._made) << 80 | 7 << 76 | 2 << 62 | self._chance.getrandbits(62)
        digits = f"{number:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    async def sleep(self, seconds: float) -> None:
        """Waits until so much time was let pass."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append((self._now + int(seconds * 1_000_000), over))
        await over

    def next_waking(self) -> int | None:
        """When the first of those who sleep here wakes."""
        self._sleeping = [one for one in self._sleeping if not one[1].done()]
        return min((at for at, _ in self._sleeping), default=None)

    def move(self, to: int) -> None:
        """Lets time pass until that instant, or stay where it is if that is over."""
        self._now = max(self._now, to)
        for at, over in self._sleeping:
            if at <= self._now and not over.done():
                over.set_result(None)
